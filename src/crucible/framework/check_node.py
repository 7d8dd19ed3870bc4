"""What is wrong with one node, seen alone? Its parts and its conditions."""

from collections.abc import Iterator

from crucible.errors import Problem, did_you_mean
from crucible.framework.check_stage import foreign, stage_problems
from crucible.framework.conditions import (
    COMPARE,
    CONDITIONS,
    Compare,
    Condition,
    Every,
    Named,
    parts_of,
    registered_conditions,
)
from crucible.framework.nodes import NODES, Loop, Node, Parallel, Range, Stream, When
from crucible.framework.slot import Slot
from crucible.framework.stage import Stage
from crucible.ir import json_problems


def node_problems(node: Node, path: str) -> Iterator[Problem]:
    """Every problem that this node has without regard to its neighbours."""
    match node:
        case Stage():
            yield from stage_problems(node, path)
        case Loop():
            yield from _loop_problems(node, path)
        case When():
            yield from _condition_problems(node.condition, path)
        case Parallel():
            yield from _parallel_problems(node, path)
        case Stream():
            yield from _items_problems(node, path)
            if type(node.capacity) is not int or node.capacity < 1:
                yield Problem(what="a capacity is an integer of 1 or more", where=path, given=repr(node.capacity))
            if not (node.produce and node.consume):
                yield Problem(what="a stream needs nodes that produce and nodes that consume", where=path)
            yield from _feedback_problems(node, path)
        case _:
            if not isinstance(node, NODES):
                yield foreign(node, path, wanted="a node", fix=f"A node is a {_names(NODES)}")


def _parallel_problems(node: Parallel, path: str) -> Iterator[Problem]:
    limit = node.max_concurrency
    if limit is not None and (type(limit) is not int or limit < 1):
        yield Problem(what="max_concurrency is an integer of 1 or more", where=path, given=repr(limit))
    if node.on_error not in ("halt", "continue"):
        yield Problem(what="on_error is halt or continue", where=path, given=repr(node.on_error))
    if not node.branches or not all(node.branches):
        yield Problem(what="a Parallel needs branches, each with nodes", where=path)


def _feedback_problems(stream: Stream, path: str) -> Iterator[Problem]:
    if stream.schedule not in ("exact", "opportunistic"):
        yield Problem(what="schedule is exact or opportunistic", where=path, given=repr(stream.schedule))
    yield from _slots_only(f"{path}.feedback", *stream.feedback)


def _items_problems(loop: Loop | Stream, path: str) -> Iterator[Problem]:
    if isinstance(loop.over, Range):
        yield from _count_problems(loop.over.n, f"{path}.over", what="a Range")
    else:
        yield from _slots_only(f"{path}.over", loop.over)
    yield from _slots_only(f"{path}.bind", loop.bind)


def _loop_problems(loop: Loop, path: str) -> Iterator[Problem]:
    yield from _items_problems(loop, path)
    yield from _count_problems(loop.depth, f"{path}.depth", what="a depth")
    if not loop.body:
        yield Problem(what="the loop's body is empty", where=path)
    if loop.until is not None:
        yield from _condition_problems(loop.until, f"{path}.until")


def _condition_problems(condition: Condition, where: str) -> Iterator[Problem]:
    for part in parts_of(condition):
        match part:
            case Every():
                yield from _count_problems(part.n, where, what="Every")
                yield from _slots_only(where, part.of)
            case Compare():
                yield from _slots_only(where, part.slot)
                if part.op not in COMPARE:
                    fix = f"Use one of {' '.join(COMPARE)}"
                    yield Problem(what="unknown comparison", where=where, given=str(part.op), fix=fix)
                yield from json_problems(part.value, where=where)
            case Named():
                if part.name not in registered_conditions():
                    fix = did_you_mean(part.name, registered_conditions())
                    yield Problem(what="no condition has this name", where=where, given=part.name, fix=fix)
                yield from _slots_only(where, *part.reads.values())
                yield from json_problems(part.options, where=where)
            case _:
                if not isinstance(part, CONDITIONS):
                    yield foreign(part, where, wanted="a condition", fix=f"A condition is {_names(CONDITIONS)}")


def _slots_only(where: str, *values: object) -> Iterator[Problem]:
    for value in values:
        if value is not None and not isinstance(value, Slot):
            yield foreign(value, where, wanted="a Slot")


def _count_problems(value: object, where: str, *, what: str) -> Iterator[Problem]:
    if type(value) is not int or value < 0:
        yield Problem(what=f"{what} needs an integer of 0 or more", where=where, given=repr(value))


def _names(kinds: tuple[type, ...]) -> str:
    *most, last = (kind.__name__ for kind in kinds)
    return f"{', '.join(most)} or {last}"
