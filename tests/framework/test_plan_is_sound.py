"""Does every workflow that the plan lets through run to its end, with the same numbers at every depth?"""

from collections.abc import Sequence
from itertools import count
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toys import Add, Log, Put, Save, run_nodes, slot

from crucible.framework import Compare, Every, Loop, Node, Range, RunResult, When, Workflow, check

SLOTS = {name: slot(name, int) for name in "abcd"}
names = st.sampled_from(sorted(SLOTS))
leaves = st.tuples(st.sampled_from(["put", "add", "log", "save"]), names, names)


def _blocks(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    block = st.lists(inner, max_size=2)
    return st.tuples(st.just("when"), st.none() | names, block, block) | _loops(inner, st.integers(0, 2))


def _loops(inner: st.SearchStrategy[Any], times: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    body, settle = st.lists(inner, min_size=1, max_size=3), st.lists(inner, max_size=2)
    return st.tuples(st.just("loop"), times, st.none() | names, body, settle)


specs = st.tuples(_loops(st.recursive(leaves, _blocks, max_leaves=4), st.integers(2, 4)), leaves)


def built(spec: Any, fresh: "count[int]", depth: int) -> Node:
    name = f"{spec[0]}{next(fresh)}"
    match spec:
        case ("put", into, _):
            return Put(name, into=SLOTS[into], value=3)
        case ("add", to, other):
            return Add(name, to=SLOTS[to], other=SLOTS[other])
        case ("log", step, value):
            return Log(name, step=SLOTS[step], value=SLOTS[value])
        case ("save", step, _):
            return Save(name, step=SLOTS[step])
        case ("when", of, then, otherwise):
            condition = Every(2) if of is None else Compare(SLOTS[of], ">", 2)
            return When(condition, block(then, fresh, depth), otherwise=block(otherwise, fresh, depth))
        case (_, times, until, body, settle):
            stop = None if until is None else Compare(SLOTS[until], ">", 6)
            nodes, late = block(body, fresh, depth), block(settle, fresh, depth)
            return Loop(name, over=Range(times), body=nodes, settle=late, depth=depth, until=stop)


def block(part: Sequence[Any], fresh: "count[int]", depth: int) -> list[Node]:
    return [built(spec, fresh, depth) for spec in part]


def workflow(start: set[str], part: Sequence[Any], depth: int) -> list[Node]:
    return [*(Put(f"start {name}", into=SLOTS[name], value=1) for name in sorted(start)), *block(part, count(), depth)]


def outcome(result: RunResult) -> object:
    return result.state, result.metrics, result.checkpoints, result.stage_counts


@settings(deadline=None, max_examples=150)
@given(st.sets(names, min_size=3), specs, st.integers(1, 3))
async def test_what_the_plan_lets_through_runs_and_depth_changes_nothing(
    start: set[str], part: Sequence[Any], depth: int
) -> None:
    assume(not check(Workflow("w", body=workflow(start, part, 0))))
    now, ahead = [await run_nodes(*workflow(start, part, ahead)) for ahead in (0, depth)]
    assert outcome(ahead) == outcome(now)
