"""Whatever the workflow: killed or stopped at any events, it ends as if nothing had happened."""

import random
from pathlib import Path

import pytest
from random_workflows import NUMBERS, Drawn

from crucible.adapters.metrics import JsonlMetricsStore
from crucible.framework import Run, RunResult, RunStopped, Stop, Workflow, check, execute, read_history
from crucible.framework.resuming import repair
from crucible.telemetry import Bus


class Killed(BaseException):
    """What a kill is to a process: nothing catches it."""


class Fuse(Bus):
    """At the n-th event, kills the run, or asks it to stop."""

    def __init__(self, at: int = 0, stop: Stop | None = None) -> None:
        super().__init__()
        self.seen, self._at, self._stop = 0, at, stop

    def emit(self, name, measurements=None, metadata=None):
        self.seen += 1
        if self.seen == self._at:
            if self._stop is None:
                raise Killed(name)
            self._stop.request()
        super().emit(name, measurements, metadata)


async def go(folder: Path, workflow: Workflow, *, bus: Bus, stop: Stop | None = None) -> RunResult:
    history = read_history(folder)
    repair(folder)
    store = JsonlMetricsStore(folder)
    run = Run(run_id=folder.name, run_dir=folder)
    try:
        return await execute(workflow, run, {"metrics_store": store}, telemetry=bus, history=history, stop=stop)
    finally:
        store.close()


def outcome(folder: Path, result: RunResult) -> tuple[object, ...]:
    files = [folder / name for name in ("metrics.jsonl", "checkpoints.jsonl")]
    numbers = {name: value for name, value in result.state.items() if name in NUMBERS}
    return [file.read_bytes() if file.exists() else b"" for file in files], result.results, result.stage_counts, numbers


@pytest.mark.parametrize("first", range(0, 400, 50))
async def test_a_workflow_that_is_killed_and_stopped_anywhere_ends_as_a_straight_one(
    first: int, tmp_path: Path
) -> None:
    ran = 0
    for seed in range(first, first + 50):
        workflow, chance = Drawn(seed).workflow(), random.Random(seed)
        if check(workflow):
            continue  # the plan refuses it, as it should what could not be continued
        straight, killed = tmp_path / f"{seed}" / "straight", tmp_path / f"{seed}" / "killed"
        counted = Fuse()
        expected = outcome(straight, await go(straight, workflow, bus=counted))
        for _ in range(chance.randrange(1, 4)):
            stop = Stop() if chance.random() < 0.4 else None
            try:
                await go(killed, workflow, bus=Fuse(chance.randrange(1, counted.seen + 1), stop), stop=stop)
            except (Killed, RunStopped):
                continue
            break
        last = outcome(killed, await go(killed, workflow, bus=Bus()))
        assert last[:3] == expected[:3], f"seed {seed}"
        assert last[3].items() <= expected[3].items(), f"seed {seed}"
        ran += 1
    assert ran >= 10
