"""What does a stage that does nothing cost, and a step of a loop? Journal, events and metrics on a real disk.

    .venv/bin/python -m benchmarks.noop_stage

Everything runs through `crucible.run`, as it does for a user, in a folder below a `runs` folder: journal.jsonl,
metrics.jsonl, events.jsonl, the run store's recorder, the console. The clock starts in the first stage of a
workflow and ends in its last, so starting and planning a run are outside of it; a
short run before has loaded what is loaded late.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contest import CACHE

import crucible
from crucible.framework import Durable, Loop, Node, Range, Slot, Stage, StageContext, Updates, Workflow, Writes
from crucible.telemetry import attach_default_handlers

STAGES = 500
STEPS = 5_000
STEP = Slot("step", int, Durable("json"))
marks: list[float] = []


class Mark(Stage):
    """Note the time."""

    async def execute(self, ctx: StageContext) -> None:
        del ctx
        marks.append(time.perf_counter())


class Nothing(Stage):
    """Does nothing."""

    async def execute(self, ctx: StageContext) -> None:
        del ctx


class Begin(Stage):
    """Start counting."""

    step: Writes[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.step, 0)


class Count(Stage):
    """Change a durable slot: the journal takes its value."""

    step: Updates[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.step, ctx.read(self.step) + 1)


class Report(Stage):
    """What a training step reports: a row of metrics and the event that the console shows."""

    step: Updates[int]

    async def execute(self, ctx: StageContext) -> None:
        step = ctx.read(self.step) + 1
        ctx.write(self.step, step)
        ctx.record_metrics(step, {"loss": 1.5, "learning_rate": 2e-4, "tokens": 512.0, "grad_norm": 1.0})
        measured = {
            "step": step,
            "total_steps": STEPS,
            "loss": 1.5,
            "learning_rate": 2e-4,
            "tokens": 512,
            "seconds": 1.0,
        }
        ctx.emit("training.step", {**measured, "tokens_per_second": 512.0})


def microseconds(nodes: Sequence[Node], *, count: int) -> float:
    """The time between the marks around the nodes, by `count`."""
    body = [Begin("begin", step=STEP), Mark("first"), *nodes, Mark("last")]
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        crucible.run(Workflow("noop", body=body), manifest="local", run_dir=Path(folder) / "runs" / "noop")
    first, last = marks[-2:]
    return (last - first) / count * 1e6


def main() -> None:
    """Measure; the last line is JSON, for `benchmarks.noop_stage_run`."""
    attach_default_handlers()
    microseconds([Nothing(f"warm-{n}") for n in range(50)], count=50)
    line = {
        "name": f"crucible {crucible.__version__}",
        "stage": microseconds([Nothing(f"stage-{n}") for n in range(STAGES)], count=STAGES),
        "changing_stage": microseconds([Count(f"stage-{n}", step=STEP) for n in range(STAGES)], count=STAGES),
        "looped_stage": microseconds([Loop("loop", over=Range(STEPS), body=[Nothing("nothing")])], count=STEPS),
        "step": microseconds([Loop("loop", over=Range(STEPS), body=[Report("report", step=STEP)])], count=STEPS),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
