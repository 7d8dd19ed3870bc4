"""Is a stage tried again only where that may help, and does nothing of a failed attempt stay?"""

# ruff: noqa: ARG002, ARG005  (a method or handler takes what it is given, wanted or not)

import asyncio
import time
from typing import Any

import pytest
from toys import Add, Await, Fail, Put, Undone, run_nodes, slot

from crucible.errors import DataError, PortError, WorkflowError
from crucible.framework import Loop, Parallel, Range, Reads, Rebuilt, Slot, Stage, StageContext, Updates, Writes
from crucible.ports.future import Future
from crucible.telemetry import Bus, Event

n = slot("n", int)


class Raise(Stage):
    """Raise these, one each time, then write; note what it found."""

    to: Updates[int]
    errors: int
    kind: str = "port"

    async def execute(self, ctx: StageContext) -> None:
        attempts.append(ctx.read(self.to))
        ctx.write(self.to, 100)
        ctx.record_metrics(len(attempts), {"attempt": float(len(attempts))})
        ctx.record_result("attempts", len(attempts))
        if len(attempts) <= self.errors:
            raise ERRORS[self.kind]


attempts: list[int] = []
ERRORS: dict[str, Exception] = {
    "port": PortError("busy", port="p", adapter="a", retryable=True),
    "final": PortError("gone", port="p", adapter="a"),
    "user": DataError.of("no rows"),
    "line": ConnectionResetError("line"),
    "workflow": WorkflowError.of("broken"),
}


@pytest.fixture(autouse=True)
def fresh() -> None:
    attempts.clear()
    Undone.log.clear()


def raising(errors: int, **options: Any) -> list[Stage]:
    return [Put("put", into=n, value=1), Raise("raise", to=n, errors=errors, backoff=0.0, **options)]


async def test_a_failed_attempts_writes_and_records_are_forgotten() -> None:
    result = await run_nodes(*raising(2, retry=2))
    assert attempts == [1, 1, 1] and result.state == {"n": 100}
    assert [row.step for row in result.metrics] == [3] and result.results == {"attempts": 3}
    assert result.stage_counts["raise"] == 1


@pytest.mark.parametrize(("kind", "tries"), [("port", 3), ("line", 3), ("final", 1), ("user", 1)])
async def test_only_errors_that_may_pass_are_tried_again(kind: str, tries: int) -> None:
    with pytest.raises(type(ERRORS[kind])):
        await run_nodes(*raising(9, retry=2, kind=kind))
    assert len(attempts) == tries


async def test_each_further_attempt_is_told_and_waits_twice_as_long() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "stage.retry", events.append)
    stage = Raise("raise", to=n, errors=2, retry=2, backoff=0.05)
    started = time.perf_counter()
    await run_nodes(Put("put", into=n, value=1), stage, bus=bus)
    assert time.perf_counter() - started >= 0.15
    assert [dict(event.measurements) for event in events] == [
        {"attempt": 1, "seconds": 0.05},
        {"attempt": 2, "seconds": 0.1},
    ]
    assert events[0].metadata["error"] == "PortError" and events[0].metadata["path"] == "w > raise"


async def test_a_run_can_be_cancelled_while_it_waits_for_another_attempt() -> None:
    bus, waiting = Bus(), asyncio.Event()
    bus.attach("set", "stage.retry", lambda event: waiting.set())
    task = asyncio.create_task(run_nodes(Undone("u", into=n, value=1, fails=9, retry=1, backoff=3600.0), bus=bus))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Undone.log == ["run u", "undo u 1 for ConnectionError", "free u"]


async def test_a_failed_attempt_is_taken_back_before_the_next_one() -> None:
    await run_nodes(Undone("u", into=n, value=1, fails=1, retry=1, backoff=0.0))
    assert Undone.log == ["run u", "undo u 1 for ConnectionError", "free u", "run u"]


async def test_a_skipped_stage_leaves_its_slots_alone_and_the_result_says_why() -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "stage", events.append)
    result = await run_nodes(*raising(9, on_error="skip", retry=1), bus=bus)
    assert result.state == {"n": 1} and result.completed_stages == ["put"] and result.metrics == []
    assert result.results == {"skipped_stages": {"w > raise": "PortError: p (a): busy"}}
    assert events[-1].name == "stage.exception" and events[-1].metadata["skipped"] is True


async def test_a_workflow_that_is_wrong_is_not_skipped() -> None:
    with pytest.raises(WorkflowError, match="broken"):
        await run_nodes(*raising(9, on_error="skip", kind="workflow"))


async def test_what_branches_and_pipelined_iterations_skip_is_all_in_the_result() -> None:
    parallel = Parallel("p", branches=[[Fail("one", on_error="skip")], [Fail("two", on_error="skip")]])
    loop = Loop("l", over=Range(3), body=[Fail("three", on_error="skip")], settle=[Add("add", to=n)], depth=2)
    result = await run_nodes(Put("put", into=n, value=0), parallel, loop)
    assert set(result.results["skipped_stages"]) == {"w > p > one", "w > p > two", "w > l > three"}


async def test_an_interrupt_is_never_tried_again() -> None:
    class Interrupt(Stage):
        async def execute(self, ctx: StageContext) -> None:
            attempts.append(0)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_nodes(Interrupt("i", retry=3, backoff=0.0, on_error="skip"))
    assert attempts == [0]


async def test_a_stage_that_owes_a_slot_is_wrong_and_not_unlucky() -> None:
    class Lazy(Stage):
        into: Writes[int]

        async def execute(self, ctx: StageContext) -> None:
            attempts.append(0)

    with pytest.raises(WorkflowError, match="without writing a slot"):
        await run_nodes(Lazy("lazy", into=n, retry=3, backoff=0.0))
    assert attempts == [0]


async def test_a_stage_may_say_itself_what_is_worth_another_attempt() -> None:
    class Stubborn(Raise):
        def retries(self, error: Exception) -> bool:
            return isinstance(error, DataError)

    result = await run_nodes(
        Put("put", into=n, value=1), Stubborn("s", to=n, errors=1, kind="user", retry=1, backoff=0)
    )
    assert attempts == [1, 1] and result.state == {"n": 100}


async def test_a_failed_future_is_awaited_once_and_its_error_is_the_stages() -> None:
    class Submit(Stage):
        into: Writes[Future[int]]
        of: Reads[int]

        async def execute(self, ctx: StageContext) -> None:
            from concurrent.futures import Future as Promise

            promise: Promise[int] = Promise()
            promise.set_exception(ConnectionError("lost"))
            ctx.write(self.into, Future(promise))

    future = Slot("future", Future[int], Rebuilt(by="submit"))
    nodes = [
        Put("put", into=n, value=1),
        Submit("submit", into=future, of=n),
        Await("await", future=future, into=slot("m", int)),
    ]
    with pytest.raises(ConnectionError, match="lost"):
        await run_nodes(*nodes)
