"""What does a stage that does nothing cost? Prints microseconds per stage, with the default telemetry attached.

    python benchmarks/noop_stage.py

20,000 iterations of a loop with one no-op stage; the median of 5 runs, and the same with every event also
written to a file.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from crucible.framework import Loop, Range, Run, Stage, StageContext, Workflow, execute
from crucible.telemetry import Bus, Jsonl, attach_default_handlers

ITERATIONS = 20_000
REPEATS = 5


class Nothing(Stage):
    """Does nothing."""

    async def execute(self, ctx: StageContext) -> None:
        del ctx


def microseconds_per_stage(bus: Bus) -> float:
    """The cost of one run, divided by its stages."""
    workflow = Workflow("noop", body=[Loop("loop", over=Range(ITERATIONS), body=[Nothing("nothing")])])
    started = time.perf_counter()
    asyncio.run(execute(workflow, Run(run_id="noop"), {}, telemetry=bus))
    return (time.perf_counter() - started) / ITERATIONS * 1e6


def median_cost(bus: Bus) -> float:
    """The median over the repeats, in microseconds."""
    return statistics.median(microseconds_per_stage(bus) for _ in range(REPEATS))


def main() -> None:
    """Measure and print; the last line is JSON, for `benchmarks.noop_stage_run`."""
    bus = Bus()
    attach_default_handlers(bus=bus)
    by_default = median_cost(bus)
    print(f"no-op stage, default telemetry:          {by_default:6.1f} us")
    with tempfile.TemporaryDirectory() as folder:
        events = Jsonl(Path(folder) / "events.jsonl")
        bus.attach("events", "*", events)
        to_file = median_cost(bus)
        print(f"no-op stage, and every event to a file:  {to_file:6.1f} us")
        events.close()
    line = {"name": "crucible", "microseconds_per_stage": by_default, "microseconds_with_event_file": to_file}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
