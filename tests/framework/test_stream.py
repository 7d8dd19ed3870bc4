"""Does a stream keep its bound, end cleanly, and give the same records and files whatever the timing?"""

# ruff: noqa: ARG002  (a stage's methods take a context, wanted or not)

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import Fuse, Killed, files, run_in
from toys import Add, Copy, Fail, Log, Put, Save, Sleep, run_nodes, slot

from crucible.framework import (
    Every,
    Loop,
    Node,
    Range,
    Reads,
    Rebuilt,
    RunStopped,
    Slot,
    Stage,
    StageContext,
    Stop,
    Stream,
    When,
    Workflow,
    Writes,
)
from crucible.telemetry import Bus, Event

item = Slot("item", int, Rebuilt(by="s"))
made, made_in_all, total, seen = slot("made", int), slot("made in all", int), slot("total", int), slot("seen", int)


class Yield(Stage):
    """Let others run, as often as a pattern says for each time."""

    pauses: list[int]
    counts: ClassVar[dict[str, int]] = {}

    async def execute(self, ctx: StageContext) -> None:
        number = self.counts[self.name] = self.counts.get(self.name, -1) + 1
        for _ in range(self.pauses[number % len(self.pauses)] if self.pauses else 0):
            await asyncio.sleep(0)


def stream(
    *, items: int = 6, capacity: int = 2, pauses: Sequence[Sequence[int]] = ((), ()), save: int = 0, rounds: int = 0
) -> Workflow:
    """Produce and count numbers; consume them into a sum. rounds: how often, in a loop; 0 is once, in none."""
    produce: list[Node] = [
        Copy("make", of=item, into=made),
        Add("count", to=made_in_all),
        Yield("slow maker", pauses=list(pauses[0])),
    ]
    consume: list[Node] = [
        Yield("slow user", pauses=list(pauses[1])),
        Add("sum", to=total, other=made),
        Add("see", to=seen),
        Log("log", step=made, value=total),
        Log("log count", step=seen, value=made_in_all),
        When(Every(save), [Save("save", step=seen)]),
    ]
    zeros = [Put(f"zero {s.name}", into=s, value=0) for s in (made_in_all, total, seen)]
    node: Node = Stream("s", over=Range(items), bind=item, produce=produce, consume=consume, capacity=capacity)
    if rounds:
        node = Loop("l", over=Range(rounds), body=[node, Add("count round", to=made_in_all, amount=100)])
    return Workflow("w", body=[*zeros, node, Log("after", step=seen, value=made_in_all)])


def how_far_ahead(events: Sequence[Event]) -> list[int]:
    """After each production begun or item consumed: how many more were begun than consumed."""
    ahead, course = 0, list[int]()
    for event in events:
        ahead += {"make": 1, "see": -1}.get(str(event.metadata["stage"]), 0) * (
            event.name == ("stage.start" if event.metadata["stage"] == "make" else "stage.stop")
        )
        course.append(ahead)
    return course


@pytest.mark.parametrize("capacity", [1, 2, 3, 5])
async def test_a_fast_producer_is_held_at_the_bound_by_a_slow_consumer(capacity: int) -> None:
    bus, events = Bus(), list[Event]()
    bus.attach("list", "stage", events.append)
    made_stream = stream(items=12, capacity=capacity, pauses=((), (40,)))
    await run_nodes(*made_stream.body, bus=bus)
    assert max(how_far_ahead(events)) == capacity


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 6), st.integers(1, 4), st.tuples(*[st.lists(st.integers(0, 9), max_size=3)] * 2))
async def test_neither_capacity_nor_timing_changes_the_outcome(
    items: int, capacity: int, pauses: tuple[list[int], list[int]]
) -> None:
    plain = await run_nodes(*stream(items=items, capacity=1).body)
    timed = await run_nodes(*stream(items=items, capacity=capacity, pauses=pauses).body)
    assert (timed.state, timed.metrics, timed.stage_counts) == (plain.state, plain.metrics, plain.stage_counts)
    assert timed.completed_stages == plain.completed_stages
    assert [row.values["total"] for row in timed.metrics if "total" in row.values] == [
        sum(range(n + 1)) for n in range(items)
    ]


@pytest.mark.parametrize("side", ["produce", "consume"])
async def test_when_one_side_fails_the_other_is_ended_and_the_failure_raised(side: str) -> None:
    ended: list[str] = []

    class Hang(Stage):
        async def execute(self, ctx: StageContext) -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(ctx.stage)

    class FailLater(Stage):
        async def execute(self, ctx: StageContext) -> None:
            await asyncio.sleep(0.01)
            raise RuntimeError("too late")

    first = Copy("make", of=item, into=made)
    late = When(Every(2), [FailLater("f") if side == "produce" else Hang("h")])
    consume: list[Node] = [Hang("h")] if side == "produce" else [FailLater("f")]
    with pytest.raises(RuntimeError, match="too late"):
        await run_nodes(Stream("s", over=Range(3), bind=item, produce=[first, late], consume=consume, capacity=2))
    assert ended == ["h"] and asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_producer_that_is_cancelled_from_within_does_not_leave_the_consumer_waiting() -> None:
    class Cancelled(Stage):
        async def execute(self, ctx: StageContext) -> None:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_nodes(Stream("s", over=Range(3), produce=[Cancelled("c")], consume=[Sleep("z")]))


@pytest.mark.parametrize("how", ["swallows it", "is taken back"])
async def test_a_producer_that_does_not_heed_being_cancelled_keeps_no_failed_consumer_waiting(how: str) -> None:
    class Stubborn(Stage):
        tries: ClassVar[list[str]] = []

        async def execute(self, ctx: StageContext) -> None:
            self.tries.append(ctx.stage)
            if how == "is taken back" and len(self.tries) == 2:
                raise ConnectionError("lost")
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05 * (how == "swallows it"))

        async def rollback(self, ctx: StageContext, error: BaseException) -> None:
            await asyncio.sleep(0.05)

    class FailSoon(Stage):
        async def execute(self, ctx: StageContext) -> None:
            await asyncio.sleep(0.02)
            raise RuntimeError("the consumer fails")

    make = Stubborn("make", retry=1, backoff=0.0)
    node = Stream("s", over=Range(50), produce=[make], consume=[FailSoon("use")], capacity=2)
    with pytest.raises(RuntimeError, match="the consumer fails"):
        await asyncio.wait_for(run_nodes(node), 20)


async def test_items_that_fail_to_come_fail_the_stream() -> None:
    class Inverses:
        def __iter__(self) -> Iterator[int]:
            return (1 // (2 - n) for n in range(5))

    class Generate(Stage):
        into: Writes[Iterable[int]]

        async def execute(self, ctx: StageContext) -> None:
            ctx.write(self.into, Inverses())

    rows = Slot("rows", Iterable[int], Rebuilt(by="gen"))
    consume = [Log("log", step=made, value=made)]
    node = Stream("s", over=rows, bind=item, produce=[Copy("make", of=item, into=made)], consume=consume)
    with pytest.raises(ZeroDivisionError):
        await run_nodes(Generate("gen", into=rows), node)


async def test_a_cancelled_stream_leaves_no_task_behind() -> None:
    nodes = Stream("s", over=Range(3), produce=[Put("p", into=made, value=1)], consume=[Sleep("sleep")])
    task = asyncio.create_task(run_nodes(nodes))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stream_in_a_loop_starts_afresh_each_time() -> None:
    result = await run_nodes(*stream(items=3, rounds=3).body)
    assert result.state["total"] == 9 and result.stage_counts["make"] == 9


@settings(deadline=None, max_examples=120)
@given(st.integers(1, 4), st.integers(1, 3), st.tuples(*[st.lists(st.integers(0, 9), max_size=3)] * 2), st.data())
async def test_a_stream_that_saves_is_killed_and_continued_to_the_same_files(
    capacity: int, save: int, pauses: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    rounds = data.draw(st.integers(0, 2), label="rounds")
    workflow = stream(items=4, capacity=capacity, pauses=pauses, save=save, rounds=rounds)
    with TemporaryDirectory() as place:
        straight, killed = Path(place) / "straight" / "run", Path(place) / "killed" / "run"
        counter = Fuse()
        expected = await run_in(straight, workflow, bus=counter)
        for _ in range(data.draw(st.integers(1, 3), label="kills")):
            with suppress(Killed):
                await run_in(killed, workflow, bus=Fuse(data.draw(st.integers(1, counter.seen), label="event")))
        result = await run_in(killed, workflow)
        assert (result.metrics, result.checkpoints) == (expected.metrics, expected.checkpoints)
        assert result.stage_counts == expected.stage_counts and files(killed) == files(straight)


class Stopping(Bus):
    """A bus that asks the run to stop at its n-th event."""

    def __init__(self, stop: Stop, at: int) -> None:
        super().__init__()
        self.stop, self.at, self.heard = stop, at, 0
        self.attach("stop", "*", self.hear)

    def hear(self, event: Event) -> None:
        self.heard += 1
        if self.heard == self.at:
            self.stop.request()


@settings(deadline=None, max_examples=120)
@given(st.integers(1, 3), st.sampled_from([0, 2]), st.tuples(*[st.lists(st.integers(0, 9), max_size=3)] * 2), st.data())
async def test_a_stream_that_is_asked_to_stop_goes_on_to_the_same_files(
    capacity: int, save: int, pauses: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    rounds = data.draw(st.integers(0, 2), label="rounds")
    workflow = stream(items=3, capacity=capacity, pauses=pauses, save=save, rounds=rounds)
    with TemporaryDirectory() as place:
        straight, stopped = Path(place) / "straight" / "run", Path(place) / "stopped" / "run"
        counter = Fuse()
        expected = await run_in(straight, workflow, bus=counter)
        stop = Stop()
        with suppress(RunStopped):
            at = data.draw(st.integers(1, counter.seen), label="event")
            await run_in(stopped, workflow, bus=Stopping(stop, at), stop=stop)
        result = await run_in(stopped, workflow)
        assert (result.metrics, result.stage_counts) == (expected.metrics, expected.stage_counts)
        assert files(stopped) == files(straight)


async def test_the_consumer_of_each_item_reads_what_was_made_for_it() -> None:
    pairs: list[tuple[int, int]] = []

    class Pair(Stage):
        one: Reads[int]
        other: Reads[int]

        async def execute(self, ctx: StageContext) -> None:
            await asyncio.sleep(0)
            pairs.append((ctx.read(self.one), ctx.read(self.other)))

    produce = [Copy("make", of=item, into=made)]
    await run_nodes(
        Stream("s", over=Range(5), bind=item, produce=produce, consume=[Pair("p", one=item, other=made)], capacity=3)
    )
    assert pairs == [(n, n) for n in range(5)]
    with pytest.raises(RuntimeError, match="f failed"):
        await run_nodes(Stream("s", over=Range(1), produce=[Fail("f")], consume=[Sleep("z")]))
