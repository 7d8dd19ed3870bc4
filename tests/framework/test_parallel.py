"""Are parallel branches really parallel, kept apart, and put together in an order that time does not change?"""

# ruff: noqa: ARG002  (a stage's methods take a context, wanted or not)

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import Fuse, Killed, files, run_in
from toys import Add, Await, Engine, Fail, Log, Put, Save, Sleep, Submit, run_nodes, slot

from crucible.errors import UndeclaredSlotError, WorkflowError
from crucible.framework import (
    Loop,
    Node,
    Parallel,
    Range,
    Reads,
    Rebuilt,
    Slot,
    Stage,
    StageContext,
    Workflow,
    Writes,
    read_history,
)
from crucible.ports.future import Future
from crucible.telemetry import Bus

SLOTS = {name: slot(name, int) for name in "abcd"}
a, b, c, d = SLOTS.values()


class Meet(Stage):
    """Block a thread until all who are expected have come, then for a while."""

    runs_in: ClassVar = "thread"
    barrier: ClassVar[threading.Barrier]
    seconds: float = 0.0

    def execute(self, ctx: StageContext) -> None:
        self.barrier.wait(20)
        time.sleep(self.seconds)


class Turn(Stage):
    """Wait for another one's turn to end, then end one's own."""

    turns: ClassVar[dict[str, asyncio.Event]]
    after: str = ""

    async def execute(self, ctx: StageContext) -> None:
        if self.after:
            await self.turns[self.after].wait()
        self.turns[self.name].set()


def taking_turns(*names: str) -> None:
    Turn.turns = {name: asyncio.Event() for name in names}


async def test_four_stages_that_block_a_second_take_a_second() -> None:
    Meet.barrier = threading.Barrier(4)
    branches = [[Meet(f"m{number}", seconds=1.0)] for number in range(4)]
    started = time.perf_counter()
    await run_nodes(Parallel("p", branches=branches))
    assert 1.0 <= time.perf_counter() - started < 1.8


async def test_more_branches_block_at_once_than_asyncio_has_threads() -> None:
    many = min(32, (os.cpu_count() or 1) + 4) + 8
    Meet.barrier = threading.Barrier(many)
    await run_nodes(Parallel("p", branches=[[Meet(f"m{number}")] for number in range(many)]))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stage")]


async def test_max_concurrency_is_reached_and_kept() -> None:
    inside, most = 0, 0

    class Count(Stage):
        async def execute(self, ctx: StageContext) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    branches = [[Count(f"c{number}"), Count(f"d{number}")] for number in range(6)]
    await run_nodes(Parallel("p", branches=branches, max_concurrency=2))
    assert most == 2


async def test_a_branch_does_not_see_what_another_one_drafts_and_all_is_there_afterwards() -> None:
    seen: list[bool] = []

    class Look(Stage):
        at: Reads[int]

        async def execute(self, ctx: StageContext) -> None:
            seen.append(ctx._state.has("b"))

    taking_turns("wrote")
    write: list[Node] = [Put("put b", into=b, value=2), Turn("wrote")]
    read: list[Node] = [Put("put c", into=c, value=3), Look("look", at=a)]
    parallel = Parallel("p", branches=[write, read], max_concurrency=1)
    result = await run_nodes(Put("put a", into=a, value=1), parallel)
    assert seen == [False] and result.state == {"a": 1, "b": 2, "c": 3}


async def test_records_and_stages_are_in_the_order_of_the_branches_whatever_ends_first() -> None:
    taking_turns("first", "second", "third")
    branches: list[list[Node]] = [
        [Turn("first", after="second"), Log("log a", step=a, value=a)],
        [Turn("second", after="third"), Log("log b", step=b, value=b)],
        [Turn("third"), Log("log c", step=c, value=c)],
    ]
    puts = [Put(f"put {name}", into=SLOTS[name], value=number) for number, name in enumerate("abc")]
    result = await run_nodes(*puts, Parallel("p", branches=branches))
    assert [(row.step, *row.values) for row in result.metrics] == [(0, "a"), (1, "b"), (2, "c")]
    assert result.completed_stages[3:] == ["first", "log a", "second", "log b", "third", "log c"]


async def test_halt_cancels_the_others_raises_the_first_failure_and_writes_nothing() -> None:
    ended: list[str] = []

    class Spoil(Stage):
        async def execute(self, ctx: StageContext) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(ctx.stage)
                raise ValueError("a failure that only the cancelling made")

    bus, written = Bus(), list[str]()
    bus.attach("list", "workflow.exception", lambda event: written.append(str(event.metadata["message"])))
    branches: list[list[Node]] = [[Put("put a", into=a, value=1), Spoil("spoil")], [Sleep("sleep")], [Fail("f")]]
    with pytest.raises(RuntimeError, match="f failed") as caught:
        await run_nodes(Parallel("p", branches=branches), bus=bus)
    assert ended == ["spoil"] and written == ["f failed"] and caught.value.__notes__ == ["in the stage w > p > f"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_halted_parallel_leaves_no_record(tmp_path: Path) -> None:
    taking_turns("logged")

    class FailThen(Stage):
        async def execute(self, ctx: StageContext) -> None:
            await Turn.turns["logged"].wait()
            raise RuntimeError(ctx.stage)

    branches: list[list[Node]] = [[Log("log", step=a, value=a), Turn("logged")], [FailThen("f")]]
    workflow = Workflow("w", body=[Put("put", into=a, value=1), Parallel("p", branches=branches)])
    with pytest.raises(RuntimeError):
        await run_in(tmp_path / "run", workflow)
    assert files(tmp_path / "run") in ({}, {"metrics.jsonl": b""})
    assert [str(point.position) for point in read_history(tmp_path / "run").points] == ["the beginning", "after put"]


async def test_continue_finishes_the_others_and_records_which_failed_and_why() -> None:
    branches: list[list[Node]] = [[Put("put a", into=a, value=1), Fail("f")], [Put("put b", into=b, value=2)]]
    result = await run_nodes(Parallel("p", branches=branches, on_error="continue"))
    assert result.results == {"p_failures": {"0": "RuntimeError: f failed"}}
    assert result.state == {"b": 2} and result.completed_stages == ["put b"]


async def test_failures_in_several_iterations_are_all_told_the_newest_by_name() -> None:
    class FailOnce(Stage):
        at: Reads[int]

        async def execute(self, ctx: StageContext) -> None:
            if ctx.read(self.at) != 1:
                raise RuntimeError(f"at {ctx.read(self.at)}")

    async def told(times: int) -> object:
        parallel = Parallel("p", branches=[[FailOnce("f", at=a)]], on_error="continue")
        result = await run_nodes(Loop("l", over=Range(times), bind=a, body=[parallel]))
        return result.results["p_failures"]

    assert await told(3) == {"l[0] > 0": "RuntimeError: at 0", "l[2] > 0": "RuntimeError: at 2"}
    many = await told(104)
    assert isinstance(many, dict) and len(many) == 101 and many["earlier"] == 3


async def test_a_branch_that_breaks_its_declaration_halts_though_failures_are_let_pass() -> None:
    class Undeclared(Stage):
        async def execute(self, ctx: StageContext) -> None:
            ctx.write(a, 1)

    with pytest.raises(UndeclaredSlotError):
        await run_nodes(Parallel("p", branches=[[Undeclared("u")], [Sleep("s")]], on_error="continue"))


async def test_a_branch_that_is_cancelled_from_within_ends_the_run_and_is_not_taken_for_done() -> None:
    class Cancelled(Stage):
        async def execute(self, ctx: StageContext) -> None:
            raise asyncio.CancelledError

    for on_error in ("halt", "continue"):
        parallel = Parallel("p", branches=[[Cancelled("c")], [Sleep("s")]], on_error=on_error)
        with pytest.raises(asyncio.CancelledError):
            await run_nodes(parallel)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_branch_ends_the_run_as_what_it_is(interrupt: type[BaseException]) -> None:
    class Interrupt(Stage):
        async def execute(self, ctx: StageContext) -> None:
            raise interrupt(ctx.stage)

    bus, errors = Bus(), list[object]()
    bus.attach("list", "workflow.exception", lambda event: errors.append(event.metadata["error"]))
    parallel = Parallel("p", branches=[[Sleep("s")], [Interrupt("i")]], on_error="continue")
    with pytest.raises(interrupt):
        asyncio.run(run_nodes(parallel, bus=bus))
    assert errors == [interrupt.__name__]


async def test_a_cancelled_run_waits_for_the_thread_that_it_cannot_stop() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), list[str]()

    class Slow(Stage):
        runs_in: ClassVar = "thread"

        def execute(self, ctx: StageContext) -> None:
            begun.set()
            go_on.wait(20)
            done.append("worked")

        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            done.append("undone")

    task = asyncio.create_task(run_nodes(Parallel("p", branches=[[Slow("slow")], [Sleep("s")]])))
    await asyncio.to_thread(begun.wait, 20)
    for _ in range(2):  # being cancelled twice changes nothing
        task.cancel()
        await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["worked", "undone"]


async def test_a_thread_that_raises_stop_iteration_fails_like_any_other() -> None:
    class Exhausted(Stage):
        runs_in: ClassVar = "thread"

        def execute(self, ctx: StageContext) -> None:
            next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_nodes(Exhausted("e"))


async def test_pipelined_loops_run_inside_branches_in_an_order_of_their_own() -> None:
    def branch(name: str, total: Slot[int]) -> list[Node]:
        future = Slot(f"future {name}", Future[int], Rebuilt(by=f"submit {name}"))
        number, square = slot(f"n {name}", int), slot(f"square {name}", int)
        loop = Loop(
            f"loop {name}",
            over=Range(4),
            bind=number,
            body=[Submit(f"submit {name}", number=number, into=future)],
            settle=[Await(f"await {name}", future=future, into=square), Add(f"add {name}", to=total, other=square)],
            depth=2,
        )
        return [Put(f"zero {name}", into=total, value=0), loop, Log(f"log {name}", step=total, value=total)]

    parallel = Parallel("p", branches=[branch("x", a), branch("y", b)])
    result = await run_nodes(parallel, ports={"engine": Engine()})
    assert (result.state["a"], result.state["b"]) == (14, 14)
    expected = [f"{stage} {name}" for name in "xy" for stage in ("zero", "submit", "await", "add", "log")]
    assert result.completed_stages == expected and result.stage_counts["add y"] == 4


async def test_workflows_and_parallels_nest_in_branches() -> None:
    inner = Workflow(
        "inner", body=[Parallel("q", branches=[[Put("one", into=a, value=1)], [Put("two", into=b, value=2)]])]
    )
    result = await run_nodes(Parallel("p", branches=[[inner], [Put("three", into=c, value=3)]]))
    assert result.state == {"a": 1, "b": 2, "c": 3}
    assert result.completed_stages == ["inner > one", "inner > two", "three"]


async def test_a_branch_that_breaks_its_declaration_says_so() -> None:
    class Lazy(Stage):
        into: Writes[int]

        async def execute(self, ctx: StageContext) -> None: ...

    with pytest.raises(WorkflowError, match="w > p > lazy: the stage finished without writing"):
        await run_nodes(Parallel("p", branches=[[Lazy("lazy", into=d)]]))


Outcomes: TypeAlias = tuple[bool, bool, bool]


def checkpointed(fails: Outcomes) -> Workflow:
    """Branches that overwrite what they read, some of which fail, then a checkpoint; in a loop, and before it."""

    def branch(number: int, total: Slot[int]) -> list[Node]:
        end = FailOn(f"end {number}", step=d, fails=fails[number])
        return [Add(f"add {number}", to=total, amount=number + 1), Log(f"log {number}", step=d, value=total), end]

    skipped = Put("maybe", into=a, value=50) if not fails[0] else FailPut("maybe", into=a, value=50, on_error="skip")
    branches = [branch(number, total) for number, total in enumerate((a, b, c))]
    beside = Parallel("p", branches=branches, on_error="continue")
    loop = Loop("l", over=Range(3), body=[Add("count", to=d), beside, Save("save", step=d)])
    puts = [Put(f"put {name}", into=SLOTS[name], value=0) for name in "abcd"]
    return Workflow(
        "w", body=[*puts, loop, skipped, *(Log(f"end {name}", step=d, value=SLOTS[name]) for name in "abc")]
    )


class FailOn(Stage):
    """Fail at every second step, if at all."""

    step: Reads[int]
    fails: bool

    async def execute(self, ctx: StageContext) -> None:
        await asyncio.sleep(0)
        if self.fails and ctx.read(self.step) % 2:
            raise RuntimeError("odd")


class FailPut(Put[int]):
    async def execute(self, ctx: StageContext) -> None:
        raise RuntimeError("never put")


@settings(deadline=None, max_examples=80)
@given(st.tuples(*[st.booleans()] * 3), st.data())
async def test_a_run_with_branches_is_killed_and_continued_to_the_same_files(
    fails: Outcomes, data: st.DataObject
) -> None:
    workflow = checkpointed(fails)
    with TemporaryDirectory() as place:
        straight, killed = Path(place) / "straight" / "run", Path(place) / "killed" / "run"
        counter = Fuse()
        expected = await run_in(straight, workflow, bus=counter)
        for _ in range(data.draw(st.integers(1, 3), label="kills")):
            with suppress(Killed):
                await run_in(killed, workflow, bus=Fuse(data.draw(st.integers(1, counter.seen), label="event")))
        result = await run_in(killed, workflow)
        assert (result.metrics, result.results) == (expected.metrics, expected.results)
        assert result.stage_counts == expected.stage_counts and files(killed) == files(straight)
