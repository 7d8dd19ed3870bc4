"""Workflows of nested loops, branches and stages, as hypothesis makes them up."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from hypothesis import strategies as st
from toys import Add, Log, Put, Save, slot

from crucible.framework import Compare, Every, Loop, Node, Range, RunResult, When

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


# The same, made so that most are sound: bodies work on a and b, settles on c and d, checkpoints stand in bodies, and
# a loop that settles holds no other loop.
early, late = st.sampled_from("ab"), st.sampled_from("cd")
works = st.tuples(st.sampled_from(["add", "put", "log", "save"]), early, early)
settles = st.tuples(st.sampled_from(["add", "log"]), late, late | early)
choices = st.tuples(st.just("when"), st.none() | early, st.lists(works, min_size=1), st.lists(works, max_size=2))


def _loop(body: st.SearchStrategy[Any], settle: st.SearchStrategy[list[Any]], times: int) -> st.SearchStrategy[Any]:
    inside = st.lists(body, min_size=1, max_size=4)
    return st.tuples(st.just("loop"), st.integers(1, times), st.none() | early, inside, settle)


settling = _loop(works | choices, st.lists(settles, min_size=1, max_size=2), 4)
resting = _loop(works | choices | settling, st.just([]), 3)
sound_specs = st.lists(works | choices | settling | resting, min_size=1, max_size=4)


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
