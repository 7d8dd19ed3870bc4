"""What can stand in a pipeline, as plain data?"""

from typing import Any, Literal, TypeAlias

import msgspec

from crucible.ir.condition import Condition


class StageNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="stage", tag_field="node"):
    """One step.

    type: the stage class's name. slots: slot names by field. options: JSON data by field.
    timeout: seconds. retry: further attempts after a failure. backoff: seconds before the second attempt, doubled
    each time. on_error: what a failure does to the run.
    """

    name: str
    type: str
    slots: dict[str, str] = {}
    options: dict[str, Any] = {}
    timeout: float | None = None
    retry: int | None = None
    backoff: float | None = None
    on_error: Literal["halt", "skip"] | None = None


class LoopNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="loop", tag_field="node"):
    """`body` for each item; `settle` `depth` iterations behind it.

    over: the name of a slot that holds an iterable, or a number n for 0 .. n - 1. bind: the slot that gets
    each item. until: ends the loop once it holds after a body.
    """

    name: str
    over: str | int
    body: "tuple[Node, ...]"
    bind: str | None = None
    settle: "tuple[Node, ...]" = ()
    depth: int = 0
    until: Condition | None = None


class ConditionalNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="conditional", tag_field="node"):
    """`then` if the condition holds, `otherwise` if not."""

    condition: Condition
    then: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]" = ()


class ParallelNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="parallel", tag_field="node"):
    """Branches side by side. max_concurrency: how many at once. on_error: what one's failure does to the others."""

    name: str
    branches: "tuple[tuple[Node, ...], ...]"
    max_concurrency: int | None = None
    on_error: Literal["halt", "continue"] = "halt"


class StreamNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="stream", tag_field="node"):
    """A producer at most `capacity` items ahead of a consumer. over, bind: as in a loop.

    feedback: names of slots that flow back to the producer: by `exact` schedule as they were `capacity` items ago.
    """

    name: str
    over: str | int
    produce: "tuple[Node, ...]"
    consume: "tuple[Node, ...]"
    bind: str | None = None
    capacity: int = 2
    feedback: tuple[str, ...] = ()
    schedule: Literal["exact", "opportunistic"] = "exact"


class WorkflowNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="workflow", tag_field="node"):
    """A workflow inside another: it shares the slots, and its names are its own."""

    name: str
    body: "tuple[Node, ...]"
    description: str = ""


Node: TypeAlias = StageNode | LoopNode | ConditionalNode | ParallelNode | StreamNode | WorkflowNode


def blocks_of(node: Node) -> tuple[tuple[str, tuple[Node, ...]], ...]:
    """The node's own sequences of nodes, each with its path under the node."""
    match node:
        case StageNode():
            return ()
        case LoopNode(body=body, settle=settle):
            return (("body", body), ("settle", settle))
        case ConditionalNode(then=then, otherwise=otherwise):
            return (("then", then), ("otherwise", otherwise))
        case ParallelNode(branches=branches):
            return tuple((f"branches[{index}]", branch) for index, branch in enumerate(branches))
        case StreamNode(produce=produce, consume=consume):
            return (("produce", produce), ("consume", consume))
        case WorkflowNode(body=body):
            return (("body", body),)
