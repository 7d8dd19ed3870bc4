"""Is a pure stage run only when its code, options or inputs are new, and is what it left the same either way?"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from toys import Engine, Multiply, Put, slot

from crucible.framework import (
    Loop,
    Parallel,
    Range,
    Reads,
    Rebuilt,
    Run,
    RunResult,
    Slot,
    Stage,
    StageContext,
    Updates,
    Workflow,
    Writes,
    check,
    execute,
)
from crucible.telemetry import Bus, Event

a, b, c, d = (slot(name, int) for name in "abcd")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Multiply.ran.clear()


def pipeline(*, start: int = 2, factors: tuple[int, int, int] = (3, 5, 7)) -> list[Stage]:
    one, two, three = factors
    return [
        Put("start", into=a, value=start),
        Multiply("one", of=a, into=b, by=one),
        Multiply("two", of=b, into=c, by=two),
        Multiply("three", of=c, into=d, by=three),
    ]


async def run(*nodes: Any, cache: Path | None, bus: Bus | None = None) -> RunResult:
    return await execute(Workflow("w", body=nodes), Run(run_id="r", cache_dir=cache), {}, telemetry=bus or Bus())


def listening(*filters: str) -> tuple[Bus, list[Event]]:
    bus, events = Bus(), list[Event]()
    bus.attach("list", filters, events.append)
    return bus, events


def entries(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.json"))


def outcome(result: RunResult) -> object:
    return result.state, repr(result.metrics), result.results, result.stage_counts, result.artifacts


async def test_a_second_run_takes_all_from_the_cache_and_leaves_the_same(tmp_path: Path) -> None:
    first = await run(*pipeline(), cache=tmp_path)
    bus, events = listening("stage.stop")
    again = await run(*pipeline(), cache=tmp_path, bus=bus)
    assert Multiply.ran == ["one", "two", "three"] and outcome(again) == outcome(first)
    assert [event.metadata.get("cached", False) for event in events] == [False, True, True, True]
    assert all(event.measurements["duration_ns"] > 0 for event in events)


async def test_a_pipeline_forks_from_the_middle_without_redoing_what_comes_before(tmp_path: Path) -> None:
    await run(*pipeline(), cache=tmp_path)
    forked = await run(*pipeline(factors=(3, 11, 7)), cache=tmp_path)
    back = await run(*pipeline(), cache=tmp_path)
    assert Multiply.ran == ["one", "two", "three", "two", "three"]
    assert (forked.state["d"], back.state["d"]) == (2 * 3 * 11 * 7, 2 * 3 * 5 * 7)


async def test_a_stage_whose_input_comes_out_the_same_is_not_run_again(tmp_path: Path) -> None:
    await run(*pipeline(start=2, factors=(6, 5, 7)), cache=tmp_path)
    await run(*pipeline(start=4, factors=(3, 5, 7)), cache=tmp_path)
    assert Multiply.ran == ["one", "two", "three", "one"]


async def test_without_a_folder_nothing_is_kept() -> None:
    for _ in range(2):
        await run(*pipeline(), cache=None)
    assert Multiply.ran == ["one", "two", "three"] * 2


SOURCE = """
from typing import ClassVar
from crucible.framework import Stage, StageContext, Updates

class Parent(Stage):
    pure: ClassVar = True
    to: Updates[int]

    def amount(self) -> int:
        return 1

class Child(Parent):
    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.to, ctx.read(self.to) + self.amount())
"""


def loaded(folder: Path, source: str) -> Any:
    """The class `Child` of a module with that source, as a fresh process would have it."""
    path = folder / f"stages_{len(list(folder.glob('*.py')))}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("some_stages", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["some_stages"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Child


@pytest.mark.parametrize(
    ("old", "new", "value", "kept"),
    [
        ("return 1", "return 1  # as ever", 2, 2),
        ("return 1", "return 10", 11, 2),
        ("\nclass Child", "\nUNRELATED = 1\n\nclass Child", 2, 1),
    ],
)
async def test_a_changed_line_of_a_stage_or_its_base_makes_it_run_again(
    tmp_path: Path, old: str, new: str, value: int, kept: int
) -> None:
    for source in (SOURCE, SOURCE.replace(old, new)):
        child = loaded(tmp_path, source)
        result = await run(Put("start", into=a, value=1), child("add", to=a), cache=tmp_path / "cache")
    assert result.state["a"] == value and len(entries(tmp_path / "cache")) == kept


async def test_a_declared_version_takes_the_place_of_the_source(tmp_path: Path) -> None:
    versioned = SOURCE.replace("    to:", "    version: ClassVar = '1'\n    to:")
    results: list[object] = []
    for source in (versioned, versioned.replace("return 1", "return 10"), versioned.replace("'1'", "'2'")):
        child = loaded(tmp_path, source)
        results.append((await run(Put("start", into=a, value=1), child("add", to=a), cache=tmp_path / "cache")).state)
    assert results == [{"a": 2}] * 3 and len(entries(tmp_path / "cache")) == 2


class Known:
    """A value that says what it is known by."""

    def __init__(self, number: int, *, tells: bool) -> None:
        self.number, self.tells = number, tells

    def fingerprint(self) -> str:
        return str(self.number) if self.tells else ""


class Make(Stage):
    into: Writes[Known]
    number: int
    tells: bool = True

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, Known(self.number, tells=self.tells))


class Take(Stage):
    pure: ClassVar = True
    of: Reads[Known]
    into: Writes[int]

    async def execute(self, ctx: StageContext) -> None:
        Multiply.ran.append(self.name)
        ctx.write(self.into, ctx.read(self.of).number)


known = Slot("known", Known, Rebuilt(by="make"))


async def test_a_rebuilt_input_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    for number in (1, 1, 2):
        result = await run(Make("make", into=known, number=number), Take("take", of=known, into=a), cache=tmp_path)
        assert result.state["a"] == number
    assert Multiply.ran == ["take", "take"]


async def test_an_input_that_cannot_be_known_again_keeps_the_stage_out_and_is_told_once(tmp_path: Path) -> None:
    bus, events = listening("stage.uncached")
    loop = Loop("l", over=Range(3), body=[Take("take", of=known, into=a)])
    await run(Make("make", into=known, number=1, tells=False), loop, cache=tmp_path, bus=bus)
    assert Multiply.ran == ["take"] * 3 and entries(tmp_path) == []
    (event,) = events
    assert event.metadata["path"] == "w > l > take" and "give its type a fingerprint()" in str(event.metadata["reason"])


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another form"])
async def test_a_damaged_entry_is_told_made_anew_and_written_again(tmp_path: Path, damage: str) -> None:
    stages = pipeline()[:2]
    await run(*stages, cache=tmp_path)
    (path,) = entries(tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-10] ^= 1
    path.write_bytes({"cut": whole[:-5], "flipped": bytes(flipped), "empty": b""}.get(damage, msgspec.json.encode({})))
    bus, events = listening("stage.uncached")
    result = await run(*stages, cache=tmp_path, bus=bus)
    assert result.state["b"] == 6 and Multiply.ran == ["one", "one"] and path.read_bytes() == whole
    assert len(events) == 1 and "is damaged and made anew" in str(events[0].metadata["reason"])


class Write(Stage):
    pure: ClassVar = True
    folder: str

    async def execute(self, ctx: StageContext) -> None:
        Multiply.ran.append(self.name)
        Path(self.folder, "plot.svg").write_text("plot")
        ctx.record_artifact("plot", Path(self.folder, "plot.svg"))


async def test_an_artifact_is_recorded_again_while_its_file_is_as_it_was(tmp_path: Path) -> None:
    stage = Write("write", folder=str(tmp_path))
    for _ in range(2):
        result = await run(stage, cache=tmp_path / "cache")
        assert result.artifacts == {"plot": tmp_path / "plot.svg"}
    assert Multiply.ran == ["write"]
    (tmp_path / "plot.svg").write_text("another")
    await run(stage, cache=tmp_path / "cache")
    (tmp_path / "plot.svg").unlink()
    await run(stage, cache=tmp_path / "cache")
    assert Multiply.ran == ["write"] * 3 and (tmp_path / "plot.svg").read_text() == "plot"


async def test_a_cache_that_cannot_be_written_fails_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    bus, events = listening("stage.uncached")
    result = await run(*pipeline()[:2], cache=tmp_path / "file", bus=bus)
    assert result.state["b"] == 6 and len(events) >= 1


async def test_a_stage_that_failed_or_was_skipped_is_not_kept(tmp_path: Path) -> None:
    class Unlucky(Multiply):
        async def execute(self, ctx: StageContext) -> None:
            await super().execute(ctx)
            raise ConnectionError("lost")

    start = Put("start", into=a, value=2)
    result = await run(start, Unlucky("u", of=a, into=b, by=3, on_error="skip"), cache=tmp_path)
    assert "b" not in result.state and list(result.results["skipped_stages"]) == ["w > u"] and entries(tmp_path) == []
    with pytest.raises(ConnectionError):
        await run(start, Unlucky("u", of=a, into=b, by=3), cache=tmp_path)
    assert entries(tmp_path) == []


async def test_branches_and_loops_take_from_the_cache_too(tmp_path: Path) -> None:
    branches = [[Multiply("left", of=a, into=b, by=3)], [Multiply("right", of=a, into=c, by=5)]]
    loop = Loop("l", over=Range(2), body=[Multiply("same", of=a, into=d, by=7)])
    body = [Put("start", into=a, value=2), Parallel("p", branches=branches), loop]
    first = await run(*body, cache=tmp_path)
    again = await run(*body, cache=tmp_path)
    assert outcome(again) == outcome(first) and sorted(Multiply.ran) == ["left", "right", "same"]


def test_the_plan_refuses_what_could_not_be_kept() -> None:
    class Wrong(Stage):
        pure: ClassVar = True
        ports: ClassVar = (Engine,)
        checkpoints: ClassVar = True
        into: Writes[Known]
        to: Updates[int]

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, Known(1, tells=True))

    workflow = Workflow(
        "w", body=[Put("start", into=a, value=1), Wrong("wrong", into=Slot("k", Known, Rebuilt("wrong")), to=a)]
    )
    assert [problem.what for problem in check(workflow)] == [
        "a pure stage has no ports: what comes from one is no function of its inputs",
        "a pure stage asks for no checkpoint",
        "a pure stage writes only slots that a cheap codec saves",
    ]


PROGRAM = """
import asyncio, sys
from pathlib import Path
from test_cache import pipeline, run
for start in range(20):
    result = asyncio.run(run(*pipeline(start=start), cache=Path(sys.argv[1])))
    assert result.state["d"] == start * 105
"""


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(entries(tmp_path)) == 60 and [path for path in tmp_path.rglob(".*") if path.is_file()] == []
