"""Does a workflow run its nodes in order, record what happened, and fail loudly?"""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from toys import Add, Await, Engine, Fail, Put, Save, Sleep, rows, run_nodes, slot, step, supervised

from crucible.errors import UndeclaredSlotError, WorkflowError
from crucible.framework import (
    Compare,
    Every,
    Loop,
    Range,
    Reads,
    Rebuilt,
    Run,
    Slot,
    Stage,
    StageContext,
    Updates,
    When,
    Workflow,
    Writes,
    execute,
)
from crucible.telemetry import Bus, Event

n = slot("n", int)


def listening(*filters: str) -> tuple[Bus, list[Event]]:
    bus, events = Bus(), list[Event]()
    bus.attach("list", filters or "*", events.append)
    return bus, events


async def test_a_run_hands_back_all_that_grew_in_it(tmp_path: Path) -> None:
    run = Run(run_id="r", recipe="sl_basic", workflow="supervised", config={"epochs": 2}, run_dir=tmp_path)
    result = await execute(supervised(), run, {"engine": Engine()}, telemetry=Bus())
    assert (result.recipe, result.workflow, result.config, result.run_id) == (
        "sl_basic",
        "supervised",
        {"epochs": 2},
        "r",
    )
    assert [(m.step, m.values["total"]) for m in result.metrics] == [(1, 1), (2, 5), (3, 14), (4, 15), (5, 19), (6, 28)]
    assert result.checkpoints == [{"step": 2}, {"step": 4}, {"step": 6}, {"step": 6}]
    expected = ["load", "start", "zero", "submit", "count", "await", "sum", "log", "save", "save_final"]
    assert result.completed_stages == expected
    assert result.stage_counts["log"] == 6 and result.stage_counts["save"] == 3
    assert result.state["total"] == 28 and result.status == "completed" and result.duration > 0


async def test_events_come_in_order_with_paths_and_durations() -> None:
    bus, events = listening("workflow", "stage")
    await execute(supervised(epochs=1, data=[3]), Run(run_id="r"), {"engine": Engine()}, telemetry=bus)
    names = [f"{event.name} {event.metadata.get('stage', '')}".strip() for event in events]
    stages = ["load", "start", "zero", "submit", "count", "await", "sum", "log", "save_final"]
    inner = [f"stage.{what} {stage}" for stage in stages for what in ("start", "stop")]
    assert names == ["workflow.start", *inner, "workflow.stop"]
    assert events[7].metadata["path"] == "supervised > epochs > batches > submit"
    assert all(event.measurements["duration_ns"] > 0 for event in events if event.name.endswith("stop"))
    assert {event.metadata["run_id"] for event in events} == {"r"}


async def test_a_failing_stage_is_reported_noted_and_raised_as_it_was() -> None:
    bus, events = listening("workflow", "stage")
    with pytest.raises(RuntimeError, match="boom failed") as caught:
        await run_nodes(Put("put", into=n, value=1), Fail("boom"), Put("never", into=n, value=2), bus=bus)
    assert caught.value.__notes__ == ["in the stage w > boom"]
    assert [event.name for event in events][-3:] == ["stage.start", "stage.exception", "workflow.exception"]
    assert events[-1].metadata["error"] == "RuntimeError" and events[-1].metadata["message"] == "boom failed"


async def test_cancelling_a_run_passes_through_with_its_events() -> None:
    bus, events = listening("workflow", "stage")
    task = asyncio.create_task(run_nodes(Sleep("sleep"), bus=bus))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event.name for event in events] == [
        "workflow.start",
        "stage.start",
        "stage.exception",
        "workflow.exception",
    ]


async def test_a_keyboard_interrupt_passes_through_with_its_events() -> None:
    class Interrupted(Stage):
        async def execute(self, ctx: StageContext) -> None:
            raise KeyboardInterrupt(ctx.stage)

    bus, events = listening("workflow.exception")
    coroutine = run_nodes(Interrupted("i"), bus=bus)
    with pytest.raises(KeyboardInterrupt):
        coroutine.send(None)
    assert [event.metadata["error"] for event in events] == ["KeyboardInterrupt"]


async def test_a_stage_that_reads_a_slot_it_did_not_declare_raises() -> None:
    class Nosy(Stage):
        async def execute(self, ctx: StageContext) -> None:
            ctx.read(n)

    with pytest.raises(UndeclaredSlotError, match=r"w > nosy: the stage reads a slot .* \(given: n\)"):
        await run_nodes(Put("put", into=n, value=1), Nosy("nosy"))


async def test_a_stage_that_writes_a_slot_it_only_reads_raises() -> None:
    class Meddling(Stage):
        source: Reads[int]

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.source, 2)

    with pytest.raises(UndeclaredSlotError, match="the stage writes a slot"):
        await run_nodes(Put("put", into=n, value=1), Meddling("m", source=n))


async def test_a_stage_that_does_not_write_what_it_declares_raises() -> None:
    class Lazy(Stage):
        into: Writes[int]

        async def execute(self, ctx: StageContext) -> None: ...

    with pytest.raises(WorkflowError, match=r"w > lazy: the stage finished without writing .* \(given: n\)"):
        await run_nodes(Lazy("lazy", into=n))


async def test_a_stage_gets_only_the_ports_it_declares() -> None:
    class Grabby(Stage):
        async def execute(self, ctx: StageContext) -> None:
            assert not ctx.has_port(Engine)
            ctx.port(Engine)

    with pytest.raises(WorkflowError, match="uses the port engine without declaring it"):
        await run_nodes(Grabby("g"), ports={"engine": Engine()})


async def test_an_optional_port_is_there_when_the_run_has_it() -> None:
    class Asking(Stage):
        optional_ports: ClassVar = (Engine,)
        into: Writes[bool]

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, ctx.has_port(Engine))

    stage = Asking("ask", into=slot("has", bool))
    assert (await run_nodes(stage)).state == {"has": False}
    assert (await run_nodes(stage, ports={"engine": Engine()})).state == {"has": True}


async def test_an_optional_port_that_the_run_lacks_is_not_handed_out() -> None:
    class Trusting(Stage):
        optional_ports: ClassVar = (Engine,)

        async def execute(self, ctx: StageContext) -> None:
            ctx.port(Engine)

    with pytest.raises(WorkflowError, match=r"w > t: this run has no engine\. Ask has_port\(\)"):
        await run_nodes(Trusting("t"))


async def test_validate_runs_before_execute_and_stops_it() -> None:
    class Careful(Stage):
        source: Updates[int]

        async def validate(self, ctx: StageContext) -> None:
            if ctx.read(self.source) < 0:
                raise WorkflowError.of("the number is negative")

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.source, 100)

    assert (await run_nodes(Put("put", into=n, value=1), Careful("c", source=n))).state["n"] == 100
    with pytest.raises(WorkflowError, match="negative"):
        await run_nodes(Put("put", into=n, value=-1), Careful("c", source=n))


async def test_a_thread_stage_runs_off_the_loop() -> None:
    class Blocking(Stage):
        runs_in: ClassVar = "thread"
        into: Writes[str]

        def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, threading.current_thread().name)

    result = await run_nodes(Blocking("b", into=slot("thread", str)))
    assert result.state["thread"] != threading.current_thread().name


@pytest.mark.parametrize(("value", "taken"), [(3, "yes"), (2, "no")])
async def test_when_takes_the_branch_of_its_condition(value: int, taken: str) -> None:
    choice = When(Compare(n, ">", 2), [Put("yes", into=n, value=1)], otherwise=[Put("no", into=n, value=0)])
    result = await run_nodes(Put("put", into=n, value=value), choice)
    assert result.completed_stages == ["put", taken]


async def test_every_counts_the_enclosing_loops_iterations_from_one() -> None:
    body = [Add("add", to=n), When(Every(2), [Save("save", step=n)]), When(Every(0), [Save("never", step=n)])]
    result = await run_nodes(Put("put", into=n, value=0), Loop("l", over=Range(5), body=body))
    assert result.checkpoints == [{"step": 2}, {"step": 4}]


async def test_a_loop_takes_its_items_lazily_and_stops_early() -> None:
    taken: list[int] = []

    class Many:
        def __iter__(self) -> Iterator[int]:
            return (taken.append(i) or i for i in range(10**9))

    class Generate(Stage):
        into: Writes[Iterable[int]]

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, Many())

    items = Slot("rows", Iterable[int], Rebuilt(by="gen"))
    item = Slot("item", int, Rebuilt(by="l"))
    loop = Loop("l", over=items, bind=item, body=[Add("add", to=n, other=item)], until=Compare(n, ">=", 6))
    result = await run_nodes(Generate("gen", into=items), Put("put", into=n, value=0), loop)
    assert taken == [0, 1, 2, 3] and result.state["n"] == 6


async def test_loops_nest_and_the_inner_one_starts_afresh() -> None:
    result = await execute(supervised(epochs=3), Run(run_id="r"), {"engine": Engine()}, telemetry=Bus())
    assert result.stage_counts["submit"] == 9 and result.state["epoch"] == 2 and result.state["row"] == 3


async def test_a_loop_over_what_is_not_iterable_says_so() -> None:
    with pytest.raises(WorkflowError, match="w > l: the loop runs over a slot that holds a int"):
        await run_nodes(Put("put", into=n, value=3), Loop("l", over=n, body=[Save("save", step=n)]))


@pytest.mark.parametrize(
    "items", [iter([1, 2]), (n for n in (1, 2)), {1, 2}, frozenset((1, 2))], ids=lambda v: type(v).__name__
)
async def test_a_loop_over_what_cannot_be_gone_through_again_in_order_is_refused(items: object) -> None:
    class Make(Stage):
        into: Writes[object]

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, items)

    over = Slot("items", object, Rebuilt(by="make"))
    with pytest.raises(WorkflowError, match=f"w > l: the loop runs over a {type(items).__name__}, .* Write a list"):
        await run_nodes(Make("make", into=over), Loop("l", over=over, body=[Put("put", into=n, value=1)]))


async def test_a_nested_workflow_shares_slots_and_prefixes_its_stages_names() -> None:
    inner = Workflow("inner", body=[Add("add", to=n)])
    result = await run_nodes(Put("put", into=n, value=0), inner, Workflow("again", body=[Add("add", to=n)]))
    assert result.completed_stages == ["put", "inner > add", "again > add"] and result.state["n"] == 2


async def test_nothing_runs_when_the_plan_has_problems() -> None:
    bus, events = listening()
    with pytest.raises(WorkflowError, match="read where it may hold nothing"):
        await run_nodes(Put("put", into=rows, value=[]), Await("a", future=slot("f", object), into=step), bus=bus)
    assert events == []


async def test_the_default_bus_hears_a_run_that_is_given_none() -> None:
    from crucible.telemetry import attach, detach

    heard: list[str] = []
    attach("test", "workflow", lambda event: heard.append(event.name))
    await execute(Workflow("w", body=[Put("put", into=n, value=1)]), Run(run_id="r"), {})
    assert detach("test") and heard == ["workflow.start", "workflow.stop"]


async def test_a_stages_own_events_carry_the_run_and_the_stage() -> None:
    class Tell(Stage):
        async def execute(self, ctx: StageContext) -> None:
            ctx.emit("training.epoch", {"epoch": 1}, {"why": "test"})

    bus, events = listening("training")
    await run_nodes(Tell("tell"), bus=bus)
    assert events[0].metadata == {"run_id": "r", "stage": "tell", "why": "test"}


async def test_results_and_checkpoints_take_json_data_only() -> None:
    class Report(Stage):
        async def execute(self, ctx: StageContext) -> None:
            ctx.record_result("nll", 1.5)
            ctx.record_artifact("plot", Path("loss.svg"))
            ctx.record_result("bad", {"nested": Path()})

    with pytest.raises(WorkflowError, match=r"w > report: bad\.nested: a PosixPath is not JSON data"):
        await run_nodes(Report("report"))


async def test_a_result_is_what_it_was_when_it_was_recorded() -> None:
    class Note(Stage):
        async def execute(self, ctx: StageContext) -> None:
            history = [[1], [2]]
            ctx.record_result("history", history)
            history[1].append(3)

    assert (await run_nodes(Note("note"))).results == {"history": [[1], [2]]}


async def test_metrics_need_a_step_and_a_value() -> None:
    class Empty(Stage):
        async def execute(self, ctx: StageContext) -> None:
            ctx.record_metrics(-1, {"loss": 1.0})

    with pytest.raises(ValueError, match="metrics need a step >= 0"):
        await run_nodes(Empty("e"))
