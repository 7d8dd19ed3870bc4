"""Does what flows back from a stream's consumer reach its producer as of a fixed item, whatever the timing, and after
a kill too?"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import Fuse, Killed, files, run_in
from test_stream import Yield
from toys import Add, Log, Put, Save, run_nodes, slot

from crucible.errors import WorkflowError
from crucible.framework import (
    Durable,
    Every,
    Node,
    Range,
    Reads,
    Rebuilt,
    Slot,
    Stage,
    StageContext,
    Stream,
    Updates,
    Versioned,
    When,
    Workflow,
    Writes,
    check,
    draw_text,
    lift,
    lower,
    stages_in,
)

KEPT = 4


@dataclass(frozen=True)
class Policy(Versioned):
    """The newest versions, as (items consumed, value)."""

    versions: tuple[tuple[int, int], ...]

    def as_of(self, consumed: int) -> "Policy":
        return Policy(tuple(version for version in self.versions if version[0] <= consumed))


class Begin(Stage):
    into: Writes[Policy]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, Policy(((0, 1),)))


class Sample(Stage):
    policy: Reads[Policy]
    into: Writes[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, ctx.read(self.policy).versions[-1][1])


class Learn(Stage):
    policy: Updates[Policy]
    sampled: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        versions = ctx.read(self.policy).versions
        done, value = versions[-1]
        new = (done + 1, (3 * value + ctx.read(self.sampled)) % 1009)
        ctx.write(self.policy, Policy((*versions, new)[-KEPT:]))


policy = Slot("policy", Policy, Durable("json"))
item, sampled = Slot("item", int, Rebuilt(by="s")), Slot("sampled", int, Rebuilt(by="sample"))
seen = slot("seen", int)


def learning(
    *,
    capacity: int = 2,
    pauses: Sequence[Sequence[int]] = ((), ()),
    save: int = 2,
    schedule: Literal["exact", "opportunistic"] = "exact",
    feedback: Sequence[Slot[Policy]] = (policy,),
) -> Workflow:
    produce: list[Node] = [
        Sample("sample", policy=policy, into=sampled),
        Yield("slow sampler", pauses=list(pauses[0])),
    ]
    consume: list[Node] = [
        Yield("slow learner", pauses=list(pauses[1])),
        Learn("learn", policy=policy, sampled=sampled),
        Add("see", to=seen),
        Log("log", step=seen, value=sampled),
        When(Every(save), [Save("save", step=seen)]),
    ]
    stream = Stream(
        "s",
        over=Range(8),
        bind=item,
        produce=produce,
        consume=consume,
        capacity=capacity,
        feedback=feedback,
        schedule=schedule,
    )
    return Workflow("w", body=[Begin("begin", into=policy), Put("zero", into=seen, value=0), stream])


def expected(capacity: int) -> list[float]:
    """What each item samples from, by hand: the value after item n - capacity was learned from."""
    values, drawn = [1], list[int]()
    for number in range(1, 9):
        drawn.append(values[max(0, number - capacity)])
        values.append((3 * values[-1] + drawn[-1]) % 1009)
    return [float(value) for value in drawn]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, KEPT), st.tuples(*[st.lists(st.integers(0, 9), max_size=3)] * 2))
async def test_each_item_sees_the_value_of_capacity_items_ago_whatever_the_timing(
    capacity: int, pauses: tuple[list[int], list[int]]
) -> None:
    result = await run_nodes(*learning(capacity=capacity, pauses=pauses).body)
    assert [row.values["sampled"] for row in result.metrics] == expected(capacity)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, KEPT), st.integers(1, 3), st.data())
async def test_a_run_that_is_killed_sees_the_same_values_again(capacity: int, save: int, data: st.DataObject) -> None:
    made = learning(capacity=capacity, save=save)
    with TemporaryDirectory() as place:
        straight, killed = Path(place) / "straight" / "run", Path(place) / "killed" / "run"
        counter = Fuse()
        await run_in(straight, made, bus=counter)
        for _ in range(2):
            with suppress(Killed):
                await run_in(killed, made, bus=Fuse(data.draw(st.integers(1, counter.seen), label="event")))
        await run_in(killed, made)
        assert files(killed) == files(straight)


async def test_an_opportunistic_producer_sees_what_is_there_when_it_starts() -> None:
    made = learning(capacity=KEPT, schedule="opportunistic", pauses=((9,), ()))
    drawn = [row.values["sampled"] for row in (await run_nodes(*made.body)).metrics]
    assert drawn != expected(KEPT) and drawn[0] == 1.0  # a slow producer meets newer values than the exact schedule's


async def test_what_flows_back_is_in_the_drawing_and_survives_the_way_to_json_and_back() -> None:
    made = learning(schedule="opportunistic")
    stages = {type(stage).__name__: type(stage) for stage in stages_in(made.body)}
    assert lift(lower(made), stages=stages) == made
    assert "policy flowing back" in draw_text(made)


def test_a_slot_that_would_not_flow_back_as_declared_is_refused() -> None:
    other = Slot("other", int, Rebuilt(by="zero"))
    made = learning(feedback=(policy, other))  # pyright: ignore[reportArgumentType]  (that is what is refused)
    told = [problem.what for problem in check(made) if problem.given == "other"]
    assert len(told) == 3 and {"nothing in consume writes the slot that flows back"} <= set(told)
    assert any(
        "in consume" in str(problem) or "consume writes" in str(problem) for problem in check(learning(feedback=()))
    )
    with pytest.raises(WorkflowError, match="schedule is exact or opportunistic"):
        raise WorkflowError(list(check(learning(schedule="soon"))))  # pyright: ignore[reportArgumentType]  (the same)
