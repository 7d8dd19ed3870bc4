"""Do calls keep the order of their lanes, and do tenants get even shares of the time, whatever comes when?"""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crucible.engine.scheduler import Lanes, Turns

LANES = st.lists(st.sets(st.sampled_from("abcd"), max_size=3), max_size=30)


@given(calls=LANES, seed=st.integers(0, 2**32))
def test_every_call_runs_and_each_lane_keeps_its_order(calls: list[set[str]], seed: int) -> None:
    lanes, rng, ran = Lanes[int](), random.Random(seed), []
    waiting = list(enumerate(calls))
    ready: list[int] = []
    while waiting or ready:
        if waiting and (not ready or rng.random() < 0.5):
            number, own = waiting.pop(0)
            ready += [number] if lanes.enter(number, own) else []
        else:
            number = ready.pop(rng.randrange(len(ready)))
            ran.append(number)
            ready += lanes.leave(number, calls[number])
    assert sorted(ran) == list(range(len(calls)))
    assert len(lanes) == 0
    for lane in "abcd":
        own = [number for number in ran if lane in calls[number]]
        assert own == sorted(own)


def test_a_call_with_no_lane_in_common_does_not_wait() -> None:
    lanes = Lanes[str]()
    assert lanes.enter("first", ["a"])
    assert not lanes.enter("behind", ["a", "b"])
    assert lanes.enter("beside", ["c"])
    assert lanes.leave("first", ["a"]) == ["behind"]


def run(turns: Turns[str], costs: dict[str, float], *, until: float) -> Counter[str]:
    """Give out turns until so much time is spent, each tenant always having one more call; the time by tenant."""
    spent: Counter[str] = Counter()
    while sum(spent.values()) < until:
        tenant = turns.take()
        assert tenant is not None
        turns.add(tenant, tenant)
        turns.charge(costs[tenant])
        spent[tenant] += costs[tenant]
    return spent


@given(costs=st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 3), min_size=1))
def test_shares_are_even_to_the_longest_unit(costs: dict[str, float]) -> None:
    turns = Turns[str]()
    for tenant in costs:
        turns.add(tenant, tenant)
    spent = run(turns, costs, until=50)
    assert max(spent.values()) - min(spent.values()) <= 2 * max(costs.values()) + 1e-9


def test_a_newcomer_has_no_past_to_catch_up_on() -> None:
    turns = Turns[str]()
    turns.add("old", "old")
    run(turns, {"old": 1}, until=1000)
    turns.add("new", "new")
    spent = run(turns, {"old": 1, "new": 1}, until=20)
    assert abs(spent["old"] - spent["new"]) <= 2


def test_who_pauses_after_each_call_is_still_charged_for_it() -> None:
    turns, spent = Turns[str](), Counter()
    turns.add("steady", "steady")
    turns.add("pausing", "pausing")
    for _ in range(200):
        tenant = turns.take()
        assert tenant is not None
        spent[tenant] += (cost := 10 if tenant == "pausing" else 1)
        if tenant == "steady":
            turns.add(tenant, tenant)
        turns.charge(cost)
        if tenant == "pausing":
            turns.add(tenant, tenant)
    assert abs(spent["steady"] - spent["pausing"]) <= 20


def test_who_waits_is_not_starved_by_a_stream_of_newcomers() -> None:
    turns, ran = Turns[str](), []
    turns.add("waiting", "waiting")
    for number in range(50):
        turns.add(f"new {number}", f"new {number}")
        ran.append(turns.take())
        turns.charge(1)
    assert "waiting" in ran[:2]


def test_a_tenant_that_is_gone_is_forgotten() -> None:
    turns = Turns[str]()
    turns.add("steady", "steady")
    for number in range(100):
        turns.add(f"one {number}", f"one {number}")
        if turns.take() == "steady":
            turns.add("steady", "steady")
        turns.charge(1)
    run(turns, {"steady": 1} | {f"one {number}": 1 for number in range(100)}, until=1)
    while turns.take() is not None:
        turns.charge(1)
    assert len(turns) == 0
