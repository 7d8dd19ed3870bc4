"""Does submitting ahead overlap work, and change nothing else?"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import (
    Add,
    Await,
    Engine,
    Log,
    Put,
    Submit,
    future,
    row,
    rows,
    run_nodes,
    slot,
    square,
    step,
    supervised,
    total,
)

from crucible.framework import (
    Compare,
    Every,
    Journal,
    Loop,
    Reads,
    Run,
    RunResult,
    Slot,
    Stage,
    StageContext,
    Updates,
    When,
    Workflow,
    check,
    execute,
)
from crucible.framework.entries import Checkpoint, Entry
from crucible.framework.nodes import Node
from crucible.ports.metrics_store import MetricsRow
from crucible.telemetry import Bus


class Noted(Stage):
    """Note on the engine, in the order that the run calls, that a future is awaited."""

    ports = (Engine,)
    number: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.port(Engine).asked.append(f"await {ctx.read(self.number)}")


def pipelined(depth: int, **options: object) -> list[Node]:
    loop = Loop(
        "batches",
        over=rows,
        bind=row,
        body=[Submit("submit", number=row, into=future)],
        settle=[Noted("noted", number=row), Await("await", future=future, into=square)],
        depth=depth,
        **options,
    )
    return [Put("load", into=rows, value=[1, 2, 3]), loop]


@pytest.mark.parametrize(
    ("depth", "order"),
    [
        (0, "submit 1, await 1, submit 2, await 2, submit 3, await 3"),
        (1, "submit 1, submit 2, await 1, submit 3, await 2, await 3"),
        (2, "submit 1, submit 2, submit 3, await 1, await 2, await 3"),
        (9, "submit 1, submit 2, submit 3, await 1, await 2, await 3"),
    ],
)
async def test_depth_is_how_many_submissions_run_ahead(depth: int, order: str) -> None:
    engine = Engine()
    await run_nodes(*pipelined(depth), ports={"engine": engine})
    assert ", ".join(engine.asked) == order


async def test_what_is_in_flight_at_an_early_stop_is_settled() -> None:
    engine = Engine()
    await run_nodes(*pipelined(2, until=Compare(row, "==", 2)), ports={"engine": engine})
    assert engine.asked == ["submit 1", "submit 2", "await 1", "await 2"]


def outcome(result: RunResult) -> object:
    return (
        result.metrics,
        result.checkpoints,
        {name: value for name, value in result.state.items() if name != "future"},
        result.stage_counts,
    )


@settings(deadline=None, max_examples=40)
@given(
    depth=st.integers(1, 3),
    data=st.lists(st.integers(0, 9), max_size=6),
    stop=st.none() | st.integers(0, 9),
    save_every=st.integers(0, 3),
    epochs=st.integers(0, 2),
)
async def test_depth_never_changes_a_number(
    depth: int, data: list[int], stop: int | None, save_every: int, epochs: int
) -> None:
    until = None if stop is None else Compare(row, "==", stop)

    async def run(depth: int) -> object:
        engine = Engine()
        workflow = supervised(depth=depth, data=data, until=until, save_every=save_every, epochs=epochs)
        result = await execute(workflow, Run(run_id="r"), {"engine": engine}, telemetry=Bus())
        engine.close()
        return outcome(result)

    assert await run(depth) == await run(0)


async def test_settle_sees_its_own_iterations_count_and_values() -> None:
    loop = Loop(
        "batches",
        over=rows,
        bind=row,
        body=[Add("count", to=step)],
        settle=[When(Every(2), [Log("log", step=step, value=row)])],
        depth=2,
    )
    result = await run_nodes(Put("load", into=rows, value=[7, 8, 9, 10]), Put("zero", into=step, value=0), loop)
    assert [(metric.step, metric.values["row"]) for metric in result.metrics] == [(2, 8.0), (4, 10.0)]


async def test_a_checkpoints_line_comes_after_the_metrics_of_its_step() -> None:
    class Watched(Journal):
        def add(self, entry: Entry) -> None:
            if isinstance(entry, MetricsRow | Checkpoint):
                seen.append(entry.step if isinstance(entry, MetricsRow) else "saved")
            super().add(entry)

    seen: list[object] = []
    await execute(supervised(depth=3), Run(run_id="r"), {"engine": Engine()}, telemetry=Bus(), journal=Watched())
    assert seen == [1, 2, "saved", 3, 4, "saved", 5, 6, "saved", "saved"]


def problems_of(*, body: list[Node], settle: list[Node], **options: object) -> list[str]:
    first = [Put("load", into=rows, value=[1]), Put("zero", into=total, value=0), Put("start", into=step, value=0)]
    loop = Loop("batches", over=rows, bind=row, body=body, settle=settle, **options)
    return [problem.what for problem in check(Workflow("w", body=[*first, loop]))]


def test_a_body_that_reads_what_settle_writes_is_refused() -> None:
    found = problems_of(body=[Log("log", step=step, value=total)], settle=[Add("add", to=total)])
    assert found == ["the body or until reads a slot that settle writes, and settle runs iterations later"]


def test_an_until_that_reads_what_settle_writes_is_refused() -> None:
    found = problems_of(body=[Add("count", to=step)], settle=[Add("add", to=total)], until=Compare(total, ">", 3))
    assert found == ["the body or until reads a slot that settle writes, and settle runs iterations later"]


def test_a_slot_that_body_and_settle_both_write_is_refused() -> None:
    found = problems_of(body=[Put("a", into=total, value=1)], settle=[Put("b", into=total, value=2)])
    assert found == ["body and settle both write the slot"]


def test_settle_may_not_touch_a_handle_that_the_body_updates() -> None:
    handle: Slot[list[int]] = slot("handle", list[int])

    class Step(Stage):
        session: Updates[list[int]]

        async def execute(self, ctx: StageContext) -> None:
            ctx.read(self.session).append(1)

    class SaveHandle(Stage):
        session: Reads[list[int]]

        async def execute(self, ctx: StageContext) -> None:
            ctx.record_checkpoint({"size": len(ctx.read(self.session))})

    opened = Put("open", into=handle, value=[])
    body: list[Node] = [opened, Step("step", session=handle)]
    found = problems_of(body=body, settle=[SaveHandle("save", session=handle)])
    assert found == ["settle reads a slot that the body updates in place, and would see a later iteration's"]
    assert problems_of(body=[*body, SaveHandle("save", session=handle)], settle=[Log("l2", step=step, value=row)]) == []


def test_a_plain_number_that_the_body_updates_may_be_settled() -> None:
    assert problems_of(body=[Add("count", to=step)], settle=[Log("log", step=step, value=step)]) == []
