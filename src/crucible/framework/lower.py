"""How does a workflow become plain data?"""

from collections.abc import Iterable, Mapping
from typing import Any

from crucible import ir
from crucible.framework.conditions import And, Compare, Condition, Every, Named, Not, Or
from crucible.framework.declaration import declaration, slots_of
from crucible.framework.nodes import Loop, Node, Parallel, Range, Stream, When, Workflow
from crucible.framework.slot import Durable, Slot
from crucible.framework.stage import Stage
from crucible.framework.workflow import touches


def lower(
    workflow: Workflow,
    *,
    id: str = "",  # noqa: A002  (the field's name in the ir)
    config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> ir.Experiment:
    """The workflow as an experiment; every option is written out, defaults too. `lift` is the inverse.

    id: the workflow's name if empty. The workflow is expected to pass `check`.
    """
    slots = {touch.slot.name: _slot(touch.slot) for touch in touches(workflow.body)}
    return ir.Experiment(
        id=id or workflow.name,
        name=workflow.name,
        description=workflow.description,
        pipeline=_block(workflow.body),
        slots=slots,
        config=dict(config or {}),
        metadata=dict(metadata or {}),
    )


def _block(nodes: Iterable[Node]) -> tuple[ir.Node, ...]:
    return tuple(_node(node) for node in nodes)


def _node(node: Node) -> ir.Node:
    match node:
        case Stage():
            return ir.StageNode(
                name=node.name,
                type=type(node).__name__,
                slots={field: slot.name for field, _, slot in slots_of(node)},
                options={name: getattr(node, name) for name in declaration(type(node)).options},
                timeout=node.timeout,
                retry=node.retry or None,
                backoff=None if node.backoff == Stage.backoff else node.backoff,
                on_error="skip" if node.on_error == "skip" else None,
            )
        case Loop():
            return ir.LoopNode(
                name=node.name,
                over=_over(node),
                body=_block(node.body),
                bind=node.bind.name if node.bind else None,
                settle=_block(node.settle),
                depth=node.depth,
                until=_condition(node.until) if node.until else None,
            )
        case When():
            return ir.ConditionalNode(
                condition=_condition(node.condition), then=_block(node.then), otherwise=_block(node.otherwise)
            )
        case Parallel():
            return ir.ParallelNode(
                name=node.name,
                branches=tuple(_block(branch) for branch in node.branches),
                max_concurrency=node.max_concurrency,
                on_error=node.on_error,
            )
        case Stream():
            return ir.StreamNode(
                name=node.name,
                over=_over(node),
                bind=node.bind.name if node.bind else None,
                produce=_block(node.produce),
                consume=_block(node.consume),
                capacity=node.capacity,
                feedback=tuple(slot.name for slot in node.feedback),
                schedule=node.schedule,
            )
        case Workflow():
            return ir.WorkflowNode(name=node.name, body=_block(node.body), description=node.description)


def _over(node: Loop | Stream) -> str | int:
    return node.over.n if isinstance(node.over, Range) else node.over.name


def _condition(condition: Condition) -> ir.Condition:
    match condition:
        case Every(n, of):
            return ir.EveryCondition(n=n, of=of.name if of else None)
        case Compare(slot, op, value):
            return ir.CompareCondition(slot=slot.name, op=op, value=value)
        case And(conditions):
            return ir.AndCondition(conditions=tuple(_condition(part) for part in conditions))
        case Or(conditions):
            return ir.OrCondition(conditions=tuple(_condition(part) for part in conditions))
        case Not(inner):
            return ir.NotCondition(inner=_condition(inner))
        case Named(name, options, reads):
            slots = {parameter: slot.name for parameter, slot in reads.items()}
            return ir.NamedCondition(name=name, options=dict(options), reads=slots)


def _slot(slot: Slot[Any]) -> ir.SlotDef:
    match slot.survives:
        case None:
            survival = None
        case Durable(codec):
            survival = ir.DurableSurvival(codec=codec)
        case rebuilt:
            survival = ir.RebuiltSurvival(by=rebuilt.by, afresh=rebuilt.afresh)
    return ir.SlotDef(type=slot.type_name, survival=survival)
