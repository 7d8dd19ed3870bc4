"""Checkpoints that nothing keeps go, and only after there is a newer one: also when a kill comes in between."""

import os
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import Fuse, Killed, files, run_in
from toys import Add, Put, slot, step

from crucible.errors import CheckpointError, ConfigError
from crucible.framework import (
    Codec,
    Durable,
    Every,
    Loop,
    Place,
    Range,
    Reads,
    Slot,
    Stage,
    StageContext,
    When,
    Workflow,
)
from crucible.framework.codec import Ready, register_codec
from crucible.framework.entries import Keep
from crucible.framework.point import Saved
from crucible.framework.retention import Held, doomed


class FileCodec(Codec):
    """A number in a file of its own; deleting the n-th of them kills."""

    cheap: ClassVar[bool] = False
    kills_at: ClassVar[int] = 0

    def save(self, slot: Slot[Any], value: Any, place: Place) -> Awaitable[Any]:
        assert slot is weights and place.run_dir is not None
        path = place.run_dir / "checkpoints" / place.name
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(value))
        return Ready({"path": place.recorded(str(path))})

    async def load(self, slot: Slot[Any], saved: Any, place: Place) -> int:
        del slot
        try:
            return int(Path(place.found(saved["path"])).read_text())
        except OSError as error:
            raise CheckpointError.of("is gone", where=saved["path"]) from error

    def told(self, saved: Any) -> dict[str, Any]:
        return {"state_path": saved["path"]}

    async def discard(self, saved: Any, place: Place) -> None:
        FileCodec.kills_at -= 1
        if FileCodec.kills_at == 0:
            raise Killed("while deleting")
        Path(place.found(saved["path"])).unlink(missing_ok=True)


register_codec("file of a test", FileCodec())
weights = Slot("weights", int, Durable("file of a test"))
score = slot("score", int)


class KeepSome(Stage):
    """Ask for a checkpoint of the step, to stay by the policy; or for a rolling one."""

    checkpoints: ClassVar = True
    step: Reads[int]
    policy: dict[str, Any] | None = None

    async def execute(self, ctx: StageContext) -> None:
        now = ctx.read(self.step)
        if self.policy is None:
            ctx.record_checkpoint(None)
        else:
            ctx.record_checkpoint({"name": f"step-{now}", "step": now}, keep=Keep(**self.policy))


class Save(Stage):
    """Ask for a checkpoint that stays."""

    checkpoints: ClassVar = True
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_checkpoint({"name": "final", "step": ctx.read(self.step), "final": True})


def training(policy: dict[str, Any] | None, *, steps: int = 13, depth: int = 0, every: int = 2) -> Workflow:
    """Steps whose score falls to step 6 and rises again."""
    return Workflow(
        "w",
        body=[
            Put("start", into=step, value=0),
            Put("init", into=weights, value=100),
            Put("zero", into=score, value=-6),
            Loop(
                "steps",
                over=Range(steps),
                depth=depth,
                body=[
                    Add("count", to=step),
                    Add("learn", to=weights, amount=3),
                    Add("better", to=score),
                    When(Every(every, of=step), [KeepSome("keep", step=step, policy=policy)]),
                ],
                settle=[Square("square", of=score, step=step)],
            ),
            Save("save", step=step),
        ],
    )


class Square(Stage):
    """Record the square of a number as the metric `loss`."""

    of: Reads[int]
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_metrics(ctx.read(self.step), {"loss": float(ctx.read(self.of) ** 2)})


def left(folder: Path) -> list[str]:
    names = [path.name for path in (folder / "checkpoints").iterdir()]
    return sorted(names, key=lambda name: (len(name), name))


EVERY = ["final", "step-2", "step-4", "step-6", "step-8", "step-10", "step-12"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, EVERY),
        ({"newest": 3}, ["final", "step-8", "step-10", "step-12"]),
        ({"newest": 1}, ["final", "step-12"]),
        ({"best": 2, "metric": "loss"}, ["final", "step-6", "step-8", "step-12"]),
        ({"best": 1, "metric": "loss", "highest": True}, ["final", "step-12"]),
        ({"newest": 2, "best": 1, "metric": "loss"}, ["final", "step-6", "step-10", "step-12"]),
        ({"ttl_seconds": 3600.0}, EVERY),
    ],
)
async def test_what_the_policy_keeps_stays_and_the_final_one_too(
    tmp_path: Path, policy: dict[str, Any], expected: list[str]
) -> None:
    folder = tmp_path / "run"
    result = await run_in(folder, training(policy))
    assert left(folder) == expected
    assert len(result.checkpoints) == 7  # the lines tell of all that were written


async def test_a_metric_that_nobody_records_ends_the_run_and_nothing_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"step 2 does not have .*nobody records it.*: loss"):
        await run_in(tmp_path / "run", training({"best": 1, "metric": "nobody records it"}))
    assert left(tmp_path / "run") == ["step-2", "step-4"]


async def test_at_any_time_the_two_newest_are_there(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with suppress(Killed):
        await run_in(folder, training({"newest": 1}), bus=Fuse(90))
    (*_, first, second) = left(folder)
    assert [first, second] == left(folder) and "final" not in (first, second)
    (folder / "checkpoints" / second).unlink()
    result = await run_in(folder, training({"newest": 1}))
    assert result.state["weights"] == 139 and left(folder) == ["final", "step-12"]


@settings(deadline=None, max_examples=60)
@given(
    policy=st.sampled_from(
        [{"newest": 1}, {"newest": 3}, {"best": 2, "metric": "loss"}, {"newest": 1, "best": 1, "metric": "loss"}, None]
    ),
    depth=st.integers(0, 3),
    data=st.data(),
)
async def test_killed_anywhere_the_same_ones_are_left(
    tmp_path_factory: pytest.TempPathFactory, policy: dict[str, Any] | None, depth: int, data: st.DataObject
) -> None:
    place, made = tmp_path_factory.mktemp("runs"), training(policy, depth=depth)
    straight, killed = place / "straight", place / "killed"
    counter, FileCodec.kills_at = Fuse(), 0
    await run_in(straight, made, bus=counter)
    for _ in range(data.draw(st.integers(1, 3), label="kills")):
        FileCodec.kills_at = data.draw(st.integers(0, 5), label="deletion")
        with suppress(Killed):
            await run_in(killed, made, bus=Fuse(data.draw(st.integers(1, counter.seen), label="event")))
    FileCodec.kills_at = 0
    ended = (killed / "checkpoints" / "final").exists()
    await run_in(killed, made)
    assert files(killed) == files(straight)
    if ended:  # what a kill has left of the last deletion goes with a further checkpoint, of which there is none
        assert set(left(straight)) <= set(left(killed))
    else:
        assert left(killed) == left(straight)


async def test_an_old_checkpoint_goes_by_its_age_but_for_the_best(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Aging(Fuse):
        def emit(self, name: str, *told: Any) -> None:
            super().emit(name, *told)
            for file in (folder / "checkpoints").glob("step-*") if name == "training.checkpoint" else ():
                os.utime(file, (1.0, 1.0))

    policy = {"ttl_seconds": 60.0, "best": 1, "newest": 9, "metric": "loss"}
    result = await run_in(folder, training(policy), bus=Aging())
    assert left(folder) == ["final", "step-6", "step-12"]
    assert result.checkpoints[0]["ttl_seconds"] == 60


async def test_a_clock_that_goes_backwards_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    await run_in(tmp_path / "run", training({"ttl_seconds": 1.0}))
    assert len(left(tmp_path / "run")) == 7


def held(number: int, *, stage: str = "a", rolling: bool = False, **policy: Any) -> Held:
    line = {"step": number, "keep": {"stage": stage, **policy}}
    saved = Saved(codec="c", name=f"n{number}", data=None, rolling=rolling)
    return Held(slots={"weights": saved}, lines=() if rolling else (line,))


def going(*every: Held) -> list[str]:
    found = doomed(every, values=lambda _: {}, age=lambda _: None)
    return [saved.name for one in found for saved in one.slots.values()]


def test_each_stage_keeps_its_own() -> None:
    ones = [held(number, stage="ab"[number % 2], newest=1) for number in range(6)]
    assert going(*ones) == ["n0", "n1", "n2", "n3"]
    assert going(*ones[:3], held(9, stage="c")) == ["n0"]


def test_what_a_stage_says_last_is_what_counts() -> None:
    assert going(held(1), held(2), held(3), held(4, newest=3)) == ["n1"]
    assert going(held(1, newest=1), held(2, newest=1), held(3, newest=1), held(4)) == []


def test_one_that_another_stage_asked_for_without_a_limit_stays() -> None:
    plain = Held(slots=held(1).slots, lines=({"step": 1}, *held(1, newest=1).lines))
    assert going(plain, held(2, newest=1), held(3, newest=1), held(4, newest=1)) == ["n2"]


def test_a_rolling_one_goes_when_there_is_a_later_one() -> None:
    assert going(held(1, rolling=True), held(2, rolling=True), held(3)) == ["n1", "n2"]
    assert going(held(1, rolling=True)) == []


def test_of_rolling_ones_the_last_two_stay() -> None:
    assert going(*(held(number, rolling=True) for number in range(4))) == ["n0", "n1"]
    assert going(held(1, rolling=True), held(2), held(3, rolling=True)) == ["n1"]


async def test_a_damaged_rolling_checkpoint_has_one_before_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with suppress(Killed):
        await run_in(folder, training(None), bus=Fuse(90))
    first, second = left(folder)
    (folder / "checkpoints" / second).unlink()
    skips: list[object] = []
    bus = Fuse()
    bus.attach("list", "workflow.resume", lambda event: skips.append(event.metadata["skipped"]))
    result = await run_in(folder, training(None), bus=bus)
    assert len(skips) == 1 and second in str(skips[0]) and first not in str(skips[0])
    assert result.state["weights"] == 139 and left(folder) == ["final"]
