"""Does a run that was killed anywhere end as if it never was?"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_workflows import SLOTS, outcome, sound_specs, workflow
from toys import Add, Engine, Put, Save

from crucible.adapters.metrics import JsonlMetricsStore
from crucible.framework import (
    Loop,
    Node,
    Range,
    Run,
    RunResult,
    Stop,
    Stream,
    Workflow,
    check,
    execute,
    read_history,
)
from crucible.framework.resuming import repair
from crucible.telemetry import Bus


class Killed(BaseException):
    """What stands for a kill: nothing catches it."""


class Fuse(Bus):
    """A bus that kills the run at its n-th event; counts them."""

    def __init__(self, burns_at: int = 10**9) -> None:
        super().__init__()
        self.burns_at, self.seen = burns_at, 0

    def emit(
        self,
        name: str,
        measurements: Mapping[str, float] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        self.seen += 1
        if self.seen == self.burns_at:
            raise Killed(name)
        super().emit(name, measurements, metadata)


async def run_in(folder: Path, made: Workflow, *, bus: Bus | None = None, stop: Stop | None = None) -> RunResult:
    """Run, or go on with the run that is there."""
    history = read_history(folder)
    repair(folder)
    store, engine = JsonlMetricsStore(folder), Engine()
    try:
        return await execute(
            made,
            Run(run_id=folder.name, run_dir=folder),
            {"engine": engine, "metrics_store": store},
            telemetry=bus or Bus(),
            history=history,
            stop=stop,
        )
    finally:
        store.close()
        engine.close()


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


FILES = ("metrics.jsonl", "checkpoints.jsonl")


@settings(deadline=None, max_examples=200)
@given(sound_specs, st.integers(0, 3), st.data())
async def test_what_the_plan_lets_through_is_killed_and_continued_to_the_same_end(
    part: Sequence[Any], depth: int, data: st.DataObject
) -> None:
    made = Workflow("w", body=workflow(set(SLOTS), part, depth))
    assume(not check(made))
    with TemporaryDirectory() as place:
        straight, killed = Path(place) / "straight" / "run", Path(place) / "killed" / "run"
        counter = Fuse()
        expected = await run_in(straight, made, bus=counter)
        for _ in range(data.draw(st.integers(1, 3), label="kills")):
            with suppress(Killed):
                await run_in(killed, made, bus=Fuse(data.draw(st.integers(1, counter.seen), label="event")))
        result = await run_in(killed, made)
        used = {name: result.state[name] for name in result.state}
        assert outcome(result)[1:] == outcome(expected)[1:]
        assert used == {name: expected.state[name] for name in used}
        assert files(killed) == files(straight)


@pytest.mark.parametrize("kind", ["loop", "stream"])
async def test_a_durable_slot_that_a_loop_binds_comes_back_as_it_left_it(tmp_path: Path, kind: str) -> None:
    a, b, c = (SLOTS[name] for name in "abc")
    count: list[Node] = [Add("count", to=b), Save("save", step=b)]
    loops: dict[str, Node] = {
        "loop": Loop("l", over=Range(3), bind=a, body=count),
        "stream": Stream("l", over=Range(3), bind=a, produce=[Put("make", into=c, value=1)], consume=count),
    }
    puts = [Put("put a", into=a, value=100), Put("put b", into=b, value=0)]
    made = Workflow("w", body=[*puts, loops[kind], Add("use", to=b, other=a), Save("end", step=b)])
    counter = Fuse()
    expected = await run_in(tmp_path / "run", made, bus=counter)
    assert expected.state["b"] == 5
    for event in range(1, counter.seen):
        killed = tmp_path / str(event)
        with suppress(Killed):
            await run_in(killed, made, bus=Fuse(event))
        assert (await run_in(killed, made)).checkpoints == expected.checkpoints
