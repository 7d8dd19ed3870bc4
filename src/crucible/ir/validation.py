"""What is wrong with this experiment? Everything, at once."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from crucible.errors import Problem, did_you_mean
from crucible.ir.condition import (
    AndCondition,
    CompareCondition,
    Condition,
    EveryCondition,
    NamedCondition,
    NotCondition,
    OrCondition,
)
from crucible.ir.experiment import DurableSurvival, Experiment, RebuiltSurvival, SlotDef
from crucible.ir.json_data import json_problems
from crucible.ir.node import (
    ConditionalNode,
    LoopNode,
    Node,
    ParallelNode,
    StageNode,
    StreamNode,
    WorkflowNode,
    blocks_of,
)
from crucible.ir.structure import structure_problems


def validate(experiment: Experiment) -> list[Problem]:
    """Every problem that shows without knowing the stages: shapes first, and if those hold, names, slots,
    numbers and values. Empty means that `to_json` and `from_json` carry it without loss."""
    try:
        data = msgspec.to_builtins(experiment)
        return list(structure_problems(data, Experiment)) or list(_meaning_problems(experiment))
    except (TypeError, ValueError, RecursionError) as error:  # a RecursionError: nested too deep
        return [Problem(what=f"the experiment is not plain data: {error}")]


def _meaning_problems(experiment: Experiment) -> Iterator[Problem]:
    if not experiment.id:
        yield Problem(what="the id is empty", where="id")
    if not experiment.pipeline:
        yield Problem(what="the pipeline is empty", where="pipeline")
    yield from json_problems(experiment.config, where="config")
    yield from json_problems(experiment.metadata, where="metadata")
    yield from _block_problems(experiment.pipeline, "pipeline", experiment.slots, {})
    yield from _slot_problems(experiment)


def _slot_problems(experiment: Experiment) -> Iterator[Problem]:
    names = set(_names_in(experiment.pipeline))
    for name, slot in experiment.slots.items():
        where = f"slots.{name}"
        if not name or not slot.type:
            yield Problem(what="a slot needs a name and a type", where=where)
        match slot.survival:
            case DurableSurvival(codec=""):
                yield Problem(what="a durable slot names its codec", where=where)
            case RebuiltSurvival(by=by) if by not in names:
                fix = did_you_mean(by, names)
                yield Problem(what="the slot is rebuilt by a node that does not exist", where=where, given=by, fix=fix)
            case _:
                pass


def _names_in(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        if not isinstance(node, ConditionalNode):
            yield node.name
        for _, block in blocks_of(node):
            yield from _names_in(block)


def _block_problems(
    nodes: Iterable[Node], where: str, slots: Mapping[str, SlotDef], taken: dict[str, str]
) -> Iterator[Problem]:
    """taken: where each name of the enclosing workflow was first given."""
    for index, node in enumerate(nodes):
        place = f"{where}[{index}]"
        if not isinstance(node, ConditionalNode):
            first = taken.setdefault(node.name, place)
            if not node.name:
                yield Problem(what="the name is empty", where=place)
            elif first != place:
                yield Problem(what=f"the name is taken by {first}", where=place, given=node.name)
        yield from _node_problems(node, place, slots)
        inner = {} if isinstance(node, WorkflowNode) else taken
        for path, block in blocks_of(node):
            yield from _block_problems(block, f"{place}.{path}", slots, inner)


def _node_problems(node: Node, where: str, slots: Mapping[str, SlotDef]) -> Iterator[Problem]:
    match node:
        case StageNode():
            if not node.type:
                yield Problem(what="the type is empty", where=where)
            if node.timeout is not None and not node.timeout > 0:
                yield Problem(what="the timeout must be above 0 seconds", where=where, given=repr(node.timeout))
            if node.retry is not None and node.retry < 0:
                yield Problem(what="retry must not be negative", where=where, given=repr(node.retry))
            if node.backoff is not None and not 0 <= node.backoff < float("inf"):
                what = "backoff must be a number of seconds from 0"
                yield Problem(what=what, where=where, given=repr(node.backoff))
            for field, slot in node.slots.items():
                yield from _unknown_slot(slot, f"{where}.slots.{field}", slots)
            yield from json_problems(node.options, where=f"{where}.options")
        case LoopNode():
            yield from _items_problems(node, where, slots)
            if node.depth < 0:
                yield Problem(what="the depth must not be negative", where=f"{where}.depth", given=repr(node.depth))
            if node.until is not None:
                yield from _condition_problems(node.until, f"{where}.until", slots)
        case ConditionalNode():
            yield from _condition_problems(node.condition, f"{where}.condition", slots)
        case StreamNode():
            yield from _items_problems(node, where, slots)
            if node.capacity < 1:
                yield Problem(what="the capacity must be at least 1", where=where, given=repr(node.capacity))
            for slot in node.feedback:
                yield from _unknown_slot(slot, f"{where}.feedback", slots)
        case ParallelNode():
            if node.max_concurrency is not None and node.max_concurrency < 1:
                what = "max_concurrency must be at least 1"
                yield Problem(what=what, where=where, given=repr(node.max_concurrency))
        case _:
            pass


def _items_problems(node: LoopNode | StreamNode, where: str, slots: Mapping[str, SlotDef]) -> Iterator[Problem]:
    if isinstance(node.over, str):
        yield from _unknown_slot(node.over, f"{where}.over", slots)
    elif node.over < 0:
        yield Problem(what="a range must not be negative", where=f"{where}.over", given=repr(node.over))
    if node.bind is not None:
        yield from _unknown_slot(node.bind, f"{where}.bind", slots)


def _condition_problems(condition: Condition, where: str, slots: Mapping[str, SlotDef]) -> Iterator[Problem]:
    match condition:
        case EveryCondition(n=n, of=slot):
            if n < 0:
                yield Problem(what="n must not be negative", where=where, given=repr(n))
            if slot is not None:
                yield from _unknown_slot(slot, where, slots)
        case CompareCondition(slot=slot, value=value):
            yield from _unknown_slot(slot, where, slots)
            yield from json_problems(value, where=f"{where}.value")
        case AndCondition(conditions=parts) | OrCondition(conditions=parts):
            for index, part in enumerate(parts):
                yield from _condition_problems(part, f"{where}.conditions[{index}]", slots)
        case NotCondition(inner=inner):
            yield from _condition_problems(inner, f"{where}.inner", slots)
        case NamedCondition(name=name, options=options, reads=reads):
            if not name:
                yield Problem(what="the name is empty", where=where)
            for parameter, slot in reads.items():
                yield from _unknown_slot(slot, f"{where}.reads.{parameter}", slots)
            yield from json_problems(options, where=f"{where}.options")


def _unknown_slot(name: str, where: str, slots: Mapping[str, SlotDef]) -> Iterator[Problem]:
    if name not in slots:
        yield Problem(what="this slot is not defined", where=where, given=name, fix=did_you_mean(name, slots))
