"""How does plain data become a workflow again, from a closed table of stage classes?"""

import builtins
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crucible import ir
from crucible.errors import Problem, SpecError, did_you_mean
from crucible.framework.conditions import And, Compare, Condition, Every, Named, Not, Or
from crucible.framework.declaration import RUNNERS_FIELDS, declaration
from crucible.framework.nodes import Loop, Node, Parallel, Range, Stream, When, Workflow
from crucible.framework.slot import Durable, Rebuilt, Slot, Survival, name_of_type
from crucible.framework.stage import Stage


def lift(experiment: ir.Experiment, stages: Mapping[str, type[Stage]]) -> Workflow:
    """The workflow that `lower` wrote down.

    stages: every stage class that a file may name, by class name. A slot's type is found by its name among
    the annotations of the stages that use it, and is `object` where none has that name.

    Raises:
        SpecError: with every problem: those of `ir.validate`, unknown stage types, and slots or options that a
            stage does not have or lacks.
    """
    problems = ir.validate(experiment)
    if problems:
        raise SpecError(problems)
    problems = list(_block_problems(experiment.pipeline, "pipeline", stages))
    if problems:
        raise SpecError(problems)
    lifting = _Lifting(experiment, stages)
    name = experiment.name or experiment.id
    return Workflow(name, body=lifting.block(experiment.pipeline), description=experiment.description)


def _block_problems(nodes: Iterable[ir.Node], where: str, stages: Mapping[str, type[Stage]]) -> Iterator[Problem]:
    for index, node in enumerate(nodes):
        place = f"{where}[{index}]"
        if isinstance(node, ir.StageNode):
            yield from _stage_problems(node, f"{place} ({node.name})", stages)
        for path, block in ir.blocks_of(node):
            yield from _block_problems(block, f"{place}.{path}", stages)


def _stage_problems(node: ir.StageNode, where: str, stages: Mapping[str, type[Stage]]) -> Iterator[Problem]:
    stage_class = stages.get(node.type)
    if stage_class is None:
        yield Problem(what="unknown stage type", where=where, given=node.type, fix=did_you_mean(node.type, stages))
        return
    declared = declaration(stage_class)
    for kind, given, known in (("slot", node.slots, declared.slots), ("option", node.options, declared.options)):
        for name in given:
            if name not in known:
                what = f"{node.type} has no such {kind}"
                yield Problem(what=what, where=where, given=name, fix=did_you_mean(name, known))
    for field in dataclasses.fields(stage_class):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name != "name" and field.name not in {**node.slots, **node.options}:
            kind = "slot" if field.name in declared.slots else "option"
            yield Problem(what=f"{node.type} needs the {kind} {field.name!r}", where=where)


class _Lifting:
    def __init__(self, experiment: ir.Experiment, stages: Mapping[str, type[Stage]]) -> None:
        self.stages = stages
        types = _types_by_slot(experiment, stages)
        self.slots: dict[str, Slot[Any]] = {
            name: Slot(name, types.get(name, object), _survival(slot.survival), type_name=slot.type)
            for name, slot in experiment.slots.items()
        }

    def block(self, nodes: Iterable[ir.Node]) -> tuple[Node, ...]:
        return tuple(self.node(node) for node in nodes)

    def node(self, node: ir.Node) -> Node:
        match node:
            case ir.StageNode():
                slots = {field: self.slots[slot] for field, slot in node.slots.items()}
                told = {name: getattr(node, name) for name in RUNNERS_FIELDS[1:]}
                given = {name: value for name, value in told.items() if value is not None}
                return self.stages[node.type](node.name, **slots, **node.options, **given)
            case ir.LoopNode():
                return Loop(
                    node.name,
                    over=self.over(node),
                    body=self.block(node.body),
                    bind=None if node.bind is None else self.slots[node.bind],
                    settle=self.block(node.settle),
                    depth=node.depth,
                    until=None if node.until is None else self.condition(node.until),
                )
            case ir.ConditionalNode():
                then, otherwise = self.block(node.then), self.block(node.otherwise)
                return When(self.condition(node.condition), then, otherwise=otherwise)
            case ir.ParallelNode():
                return Parallel(
                    node.name,
                    branches=[self.block(branch) for branch in node.branches],
                    max_concurrency=node.max_concurrency,
                    on_error=node.on_error,
                )
            case ir.StreamNode():
                produce, consume = self.block(node.produce), self.block(node.consume)
                return Stream(
                    node.name,
                    over=self.over(node),
                    produce=produce,
                    consume=consume,
                    bind=None if node.bind is None else self.slots[node.bind],
                    capacity=node.capacity,
                    feedback=[self.slots[name] for name in node.feedback],
                    schedule=node.schedule,
                )
            case ir.WorkflowNode():
                return Workflow(node.name, body=self.block(node.body), description=node.description)

    def over(self, node: ir.LoopNode | ir.StreamNode) -> Range | Slot[Any]:
        return Range(node.over) if isinstance(node.over, int) else self.slots[node.over]

    def condition(self, condition: ir.Condition) -> Condition:
        match condition:
            case ir.EveryCondition():
                return Every(condition.n, None if condition.of is None else self.slots[condition.of])
            case ir.CompareCondition():
                return Compare(self.slots[condition.slot], condition.op, condition.value)
            case ir.AndCondition():
                return And(*(self.condition(part) for part in condition.conditions))
            case ir.OrCondition():
                return Or(*(self.condition(part) for part in condition.conditions))
            case ir.NotCondition():
                return Not(self.condition(condition.inner))
            case ir.NamedCondition():
                reads = {parameter: self.slots[slot] for parameter, slot in condition.reads.items()}
                return Named(condition.name, condition.options, reads)


def _types_by_slot(experiment: ir.Experiment, stages: Mapping[str, type[Stage]]) -> dict[str, Any]:
    """Each slot's type, where a stage that uses it is annotated with a type of that name, or a builtin is."""
    found: dict[str, Any] = {
        name: getattr(builtins, slot.type) for name, slot in experiment.slots.items() if slot.type in _BUILTIN
    }
    for node in _stages_in(experiment.pipeline):
        declared = declaration(stages[node.type]).slots
        for field, slot in node.slots.items():
            if name_of_type(declared[field].type) == experiment.slots[slot].type:
                found[slot] = declared[field].type
    return found


_BUILTIN = ("int", "float", "bool", "str", "bytes", "list", "dict", "tuple", "object")


def _stages_in(nodes: Iterable[ir.Node]) -> Iterator[ir.StageNode]:
    for node in nodes:
        if isinstance(node, ir.StageNode):
            yield node
        for _, block in ir.blocks_of(node):
            yield from _stages_in(block)


def _survival(survival: ir.Survival | None) -> Survival | None:
    match survival:
        case ir.DurableSurvival(codec=codec):
            return Durable(codec)
        case ir.RebuiltSurvival(by=by, afresh=afresh):
            return Rebuilt(by, afresh=afresh)
        case None:
            return None
