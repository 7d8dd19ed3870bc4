"""Does every workflow that the plan lets through run to its end, with the same numbers at every depth?"""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Add, Log, Put, Save, run_nodes, slot

from crucible.errors import WorkflowError
from crucible.framework import Compare, Every, Loop, Node, Range, RunResult, When, Workflow, check

SLOTS = {name: slot(name, int) for name in "abcd"}
names = st.sampled_from(sorted(SLOTS))
leaves = st.tuples(st.sampled_from(["add", "put", "log", "save"]), names, names)


def loops(body: st.SearchStrategy[Any], settle: st.SearchStrategy[Any], times: int) -> st.SearchStrategy[Any]:
    return st.tuples(
        st.just("loop"),
        st.integers(0, times),
        st.none() | names,
        st.lists(body, min_size=1, max_size=4),
        st.lists(settle, min_size=1, max_size=2),
    )


branches = st.lists(leaves, min_size=1, max_size=2)
inner = leaves | st.tuples(st.just("when"), st.none() | names, branches, branches) | loops(leaves, leaves, 2)
specs = st.tuples(loops(inner, inner, 4), leaves)


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


@settings(deadline=None, max_examples=400)
@given(st.sets(names, min_size=3), specs, st.integers(1, 3))
async def test_what_the_plan_lets_through_runs_and_depth_changes_nothing(
    start: set[str], part: Sequence[Any], depth: int
) -> None:
    if check(Workflow("w", body=workflow(start, part, 0))):
        with pytest.raises(WorkflowError):
            await run_nodes(*workflow(start, part, 0))
        return
    now, ahead = [await run_nodes(*workflow(start, part, ahead)) for ahead in (0, depth)]
    assert outcome(ahead) == outcome(now)
