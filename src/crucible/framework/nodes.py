"""How is a workflow written down? As frozen nodes inside nodes; the leaves are stages."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from crucible.framework.conditions import Condition
from crucible.framework.slot import Slot
from crucible.framework.stage import Stage


@dataclass(frozen=True)
class Range:
    """0, 1, ... n - 1."""

    n: int


@dataclass(frozen=True)
class Loop:
    """Run `body` for each item, lazily; then, `depth` iterations behind, `settle`.

    over: a slot that holds what can be iterated again, in the same order (a list; no generator, no set), or `Range(n)`.
    bind: the slot that gets each item.
    body submits work; settle awaits it. Settle of iteration n runs after the body of iteration n + depth
    (and all of them before the loop ends), and sees the slots that body and bind wrote as iteration n left
    them. The plan refuses what could make `depth` change a result.
    until: a condition looked at after each body; once true, no further iteration starts.
    """

    name: str
    over: Slot[Any] | Range = field(kw_only=True)
    body: "Sequence[Node]" = field(kw_only=True)
    bind: Slot[Any] | None = field(default=None, kw_only=True)
    settle: "Sequence[Node]" = field(default=(), kw_only=True)
    depth: int = field(default=0, kw_only=True)
    until: Condition | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _freeze(self, "body", "settle")


@dataclass(frozen=True)
class When:
    """Run `then` if the condition holds, `otherwise` if it does not."""

    condition: Condition
    then: "Sequence[Node]"
    otherwise: "Sequence[Node]" = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        _freeze(self, "then", "otherwise")


@dataclass(frozen=True)
class Parallel:
    """Branches that run side by side, each on the slots as they were before; then what they wrote is put together.

    The plan refuses branches that touch what another one writes, so that no order between them can matter. What
    they record is kept in the order of the branches.
    max_concurrency: how many run at once; None is all of them. on_error: `halt` stops the others and raises the
    first failure; `continue` lets them finish and records the failures as the result `<name>_failures`, by the
    branch's number and, in a loop, the iteration (then what the branches write is not certain to be there afterwards).
    A branch that breaks its declaration halts all the same.
    """

    name: str
    branches: "Sequence[Sequence[Node]]" = field(kw_only=True)
    max_concurrency: int | None = field(default=None, kw_only=True)
    on_error: Literal["halt", "continue"] = field(default="halt", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(tuple(branch) for branch in self.branches))


@dataclass(frozen=True)
class Stream:
    """Produce for each item, at most `capacity` items ahead of a consumer that runs beside it.

    over, bind: as in a loop. consume sees the slots that produce and bind wrote as that item's produce left them.
    The plan refuses a produce that reads what consume writes, so that timing cannot change a number. An item counts
    as ahead until it is consumed: with a capacity of 1 the two take turns, with 2 they overlap.

    feedback: slots that consume writes and produce reads all the same; each holds a `Versioned` and is durable.
    schedule: `exact`: produce of item n sees them as consume of item n - capacity left them (as they were before the
    stream, if there is none such), so that timing still cannot change a number; `opportunistic`: as they are when it
    starts. Then a stage that reads them must record what it saw, and go by its record when the run is continued.
    """

    name: str
    over: Slot[Any] | Range = field(kw_only=True)
    produce: "Sequence[Node]" = field(kw_only=True)
    consume: "Sequence[Node]" = field(kw_only=True)
    bind: Slot[Any] | None = field(default=None, kw_only=True)
    capacity: int = field(default=2, kw_only=True)
    feedback: Sequence[Slot[Any]] = field(default=(), kw_only=True)
    schedule: Literal["exact", "opportunistic"] = field(default="exact", kw_only=True)

    def __post_init__(self) -> None:
        _freeze(self, "produce", "consume", "feedback")


@dataclass(frozen=True)
class Workflow:
    """A named sequence of nodes; as a node inside another workflow, it shares that one's slots.

    Names are unique within a workflow; a workflow inside it has names of its own.
    """

    name: str
    body: "Sequence[Node]" = field(kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _freeze(self, "body")


Node: TypeAlias = Stage | Loop | When | Parallel | Stream | Workflow
NODES: tuple[type, ...] = get_args(Node)


def blocks_of(node: Node) -> tuple[Sequence[Node], ...]:
    """The node's own sequences of nodes, in the order they are written."""
    match node:
        case Loop():
            return (node.body, node.settle)
        case When():
            return (node.then, node.otherwise)
        case Parallel():
            return tuple(node.branches)
        case Stream():
            return (node.produce, node.consume)
        case Workflow():
            return (node.body,)
        case _:  # a stage, or what the plan will refuse as no node at all
            return ()


def path_of(node: Node, parent: str) -> str:
    """`supervised > epochs > batches`: where the node stands; a `When` has no name and adds nothing."""
    return parent if isinstance(node, When) else f"{parent} > {getattr(node, 'name', '?')}"


def placed(nodes: Iterable[Node], parent: str) -> Iterator[tuple[str, Node]]:
    """Every node with its path, however deep, in the order they are written."""
    for node in nodes:
        path = path_of(node, parent)
        yield path, node
        for block in blocks_of(node):
            yield from placed(block, path)


def stages_in(nodes: Iterable[Node]) -> Iterator[Stage]:
    """Every stage, however deep, in the order they are written."""
    return (node for _, node in placed(nodes, "") if isinstance(node, Stage))


def _freeze(node: object, *fields: str) -> None:
    for name in fields:
        object.__setattr__(node, name, tuple(getattr(node, name)))
