"""Is what is open and costly to save in every checkpoint while it is open, and closed when a run fails?"""

# ruff: noqa: ARG002  (a method takes what it is given, wanted or not)

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from test_resume import Fuse, Killed, run_in
from toys import Add, Fail, Put, slot

from crucible.errors import CheckpointError
from crucible.framework import (
    Codec,
    Durable,
    Loop,
    Node,
    Place,
    Range,
    Reads,
    RunStopped,
    Slot,
    Stage,
    StageContext,
    Stop,
    Updates,
    Workflow,
    Writes,
    check,
    read_history,
    register_codec,
)
from crucible.framework.codec import Ready


class Box:
    """Something open that holds a number. open_now: the names of those that are, in order of opening."""

    open_now: ClassVar[list[str]] = []

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.open_now.append(name)

    def close(self) -> None:
        if self.name in self.open_now:
            self.open_now.remove(self.name)


class BoxCodec(Codec):
    """A file for each; what is closed cannot be saved."""

    cheap: ClassVar[bool] = False

    def save(self, slot: Slot[Any], value: Box, place: Place) -> Awaitable[Any]:
        assert value.name in Box.open_now, f"{slot.name} is closed"
        assert place.run_dir is not None
        path = place.run_dir / "boxes" / place.name
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(value.number))
        return Ready({"path": place.recorded(str(path)), "name": value.name})

    async def load(self, slot: Slot[Any], saved: Any, place: Place) -> Box:
        try:
            return Box(saved["name"], int(Path(place.found(saved["path"])).read_text()))
        except (OSError, ValueError) as error:
            raise CheckpointError.of("is gone or damaged", where=saved["path"]) from error

    def told(self, saved: Any) -> dict[str, Any]:
        return {"state_path": saved["path"]}

    async def discard(self, saved: Any, place: Place) -> None:
        Path(place.found(saved["path"])).unlink(missing_ok=True)


register_codec("box of a test", BoxCodec())


class Open(Stage):
    into: Writes[Box]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, Box(self.into.name, 0))

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.into):
            ctx.read(self.into).close()


class Fill(Stage):
    box: Updates[Box]

    async def execute(self, ctx: StageContext) -> None:
        ctx.read(self.box).number += 1


class Close(Stage):
    closes: ClassVar = ("box",)
    box: Reads[Box]

    async def execute(self, ctx: StageContext) -> None:
        ctx.read(self.box).close()


class Save(Stage):
    checkpoints: ClassVar = True
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_checkpoint({"name": f"step-{ctx.read(self.step)}", "step": ctx.read(self.step)})


class Roll(Stage):
    checkpoints: ClassVar = True

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_checkpoint(None)


one, two = (Slot(name, Box, Durable("box of a test")) for name in ("one", "two/ä"))
n = slot("n", int)


@pytest.fixture(autouse=True)
def fresh() -> None:
    Box.open_now.clear()


def training(name: str, *boxes: Slot[Box], times: int = 2, last: tuple[Node, ...] = ()) -> Loop:
    fills = [Fill(f"fill {box.name} {name}", box=box) for box in boxes]
    return Loop(name, over=Range(times), body=[Add(f"count {name}", to=n), *fills, *last, Save(f"save {name}", step=n)])


def started(*nodes: Node, name: str = "w") -> Workflow:
    return Workflow(name, body=[Put("zero", into=n, value=0), *nodes])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "checkpoints.jsonl").read_text().splitlines()]


async def killed_anywhere(folder: Path, made: Workflow, *, every: int) -> None:
    """Every so many events: run, kill there, continue, and compare."""
    counter = Fuse()
    straight = await run_in(folder / "straight" / "run", made, bus=counter)
    for event in range(1, counter.seen, every):
        Box.open_now.clear()
        killed = folder / f"killed {event}" / "run"
        with suppress(Killed):
            await run_in(killed, made, bus=Fuse(event))
        Box.open_now.clear()
        result = await run_in(killed, made)
        assert lines(killed) == lines(folder / "straight" / "run")
        assert (result.metrics, result.stage_counts) == (straight.metrics, straight.stage_counts)


async def test_what_a_stage_has_closed_is_in_no_later_checkpoint(tmp_path: Path) -> None:
    first = [Open("open 1", into=one), training("a", one), Close("close 1", box=one)]
    second = [Open("open 2", into=two), training("b", two), Close("close 2", box=two)]
    made = started(*first, *second)
    assert check(made) == []
    await killed_anywhere(tmp_path, made, every=3)
    paths = [line["state_path"].split("/")[-1] for line in lines(tmp_path / "straight" / "run")]
    assert paths[:2] == ["step-1.one", "step-2.one"] and all(path.startswith("step-") for path in paths)
    assert [path.split(".")[0] for path in paths[2:]] == ["step-3", "step-4"]


async def test_the_rolling_checkpoint_of_what_is_closed_goes_too(tmp_path: Path) -> None:
    first = Loop("a", over=Range(2), body=[Fill("fill", box=one), Roll("roll")])
    second = [Open("open 2", into=two), training("b", two), Close("close 2", box=two)]
    made = started(Open("open 1", into=one), first, Close("close 1", box=one), *second)
    await killed_anywhere(tmp_path, made, every=4)
    for run in tmp_path.glob("*/run/boxes"):
        assert [path.name[:6] for path in sorted(run.iterdir())] == ["step-1", "step-2"]


async def test_what_no_stage_reads_any_more_is_in_every_checkpoint_until_it_is_closed(tmp_path: Path) -> None:
    made = started(Open("open", into=one), training("a", one), training("b"))
    await killed_anywhere(tmp_path, made, every=3)
    paths = [line["state_path"] for line in lines(tmp_path / "straight" / "run")]
    assert paths == [f"boxes/step-{number}" for number in range(1, 5)]


async def test_a_line_names_each_of_several_the_first_without_its_name(tmp_path: Path) -> None:
    made = started(Open("open 1", into=one), Open("open 2", into=two), training("a", one, two, times=1))
    await run_in(tmp_path / "run", made)
    (line,) = lines(tmp_path / "run")
    assert line["state_path"] == "boxes/step-1.one"
    assert line["state_path.two/ä"].startswith("boxes/step-1.two-")
    assert {path.name for path in (tmp_path / "run" / "boxes").iterdir()} == {
        line["state_path"][6:],
        line["state_path.two/ä"][6:],
    }


def test_a_stage_closes_only_what_it_reads() -> None:
    with pytest.raises(TypeError, match="closes names into, which is no slot that it reads"):

        class Wrong(Stage):
            closes: ClassVar = ("into",)
            into: Writes[int]

            async def execute(self, ctx: StageContext) -> None: ...


async def test_what_a_continued_run_got_from_its_checkpoint_is_freed_when_it_fails_too(tmp_path: Path) -> None:
    made = started(Open("open", into=one), training("a", one), Fail("f"), training("b", one))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="f failed"):
            await run_in(tmp_path / "run", made)
        assert Box.open_now == []


async def test_what_was_loaded_before_a_damaged_part_of_its_checkpoint_is_freed(tmp_path: Path) -> None:
    opened = [Open("open 1", into=one), Open("open 2", into=two)]
    made = started(*opened, training("a", one, two), Fail("f"), training("b", one, two))
    with pytest.raises(RuntimeError):
        await run_in(tmp_path / "run", made)
    (damaged,) = (tmp_path / "run" / "boxes").glob("step-2.two*")
    damaged.write_text("x")
    with pytest.raises(RuntimeError):
        await run_in(tmp_path / "run", made)
    assert Box.open_now == [] and damaged.read_text() == "2"


@pytest.mark.parametrize("asked", [False, True], ids=["a stage between", "a stage that asks for a checkpoint"])
async def test_a_checkpoint_that_is_being_written_outside_of_loops_is_not_cut_short_by_a_stop(
    tmp_path: Path, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, plain = Stop(), BoxCodec.save

    def slow(self: BoxCodec, slot: Slot[Any], value: Box, place: Place) -> Awaitable[Any]:
        saved = plain(self, slot, value, place)

        async def later() -> Any:
            await asyncio.sleep(0.05)
            return await saved

        return asyncio.ensure_future(later())

    class Ask(Stage):
        checkpoints: ClassVar = True

        async def execute(self, ctx: StageContext) -> None:
            stop.request()
            if asked:
                ctx.record_checkpoint({"name": "asked", "step": 0})

    class AskAgain(Stage):
        async def execute(self, ctx: StageContext) -> None:
            raise AssertionError("the run was to stop")

    monkeypatch.setattr(BoxCodec, "save", slow)
    body = [Open("open", into=one), Ask("ask"), AskAgain("after"), Fill("fill", box=one)]
    with pytest.raises(RunStopped, match="after ask"):
        await run_in(tmp_path / "run", started(*body), stop=stop)
    (saved,) = (tmp_path / "run" / "boxes").iterdir()
    assert read_history(tmp_path / "run").last.name == saved.name


@pytest.mark.parametrize("name", ["train/epochs", "x" * 260, "../..", "épochs"])
async def test_a_run_can_be_stopped_in_a_loop_whose_name_is_no_files(tmp_path: Path, name: str) -> None:
    stop = Stop()

    class Ask(Stage):
        async def execute(self, ctx: StageContext) -> None:
            stop.request()

    made = started(Open("open", into=one), Loop(name, over=Range(3), body=[Fill("fill", box=one), Ask("ask")]))
    with pytest.raises(RunStopped):
        await run_in(tmp_path / "run", made, stop=stop)
    (saved,) = (tmp_path / "run" / "boxes").iterdir()
    assert read_history(tmp_path / "run").last.name == saved.name and saved.read_text() == "1"
