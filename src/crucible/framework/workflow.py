"""What does a workflow touch? Its slots and ports, read from the nodes without running them."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from crucible.framework.conditions import slots_read
from crucible.framework.declaration import slots_of
from crucible.framework.nodes import Loop, Node, Stream, When, Workflow, blocks_of, stages_in
from crucible.framework.slot import READS, UPDATES, WRITES, Access, Slot
from crucible.framework.stage import Stage
from crucible.ports import Port


class Touch(NamedTuple):
    """One use of a slot: who (a node's name), how, and which."""

    by: str
    access: Access
    slot: Slot[Any]


def touches(nodes: Iterable[Node]) -> Iterator[Touch]:
    """Every use of a slot in these nodes, however deep, in the order they are written."""
    for node in nodes:
        match node:
            case Stage():
                yield from (Touch(node.name, declared.access, slot) for _, declared, slot in slots_of(node))
            case Loop() | Stream():
                if isinstance(node.over, Slot):
                    yield Touch(node.name, READS, node.over)
                if isinstance(node.bind, Slot):
                    yield Touch(node.name, WRITES, node.bind)
            case When():
                yield from (Touch("when", READS, slot) for slot in slots_read(node.condition))
            case _:
                pass
        for block in blocks_of(node):
            yield from touches(block)
        if isinstance(node, Loop) and node.until is not None:
            yield from (Touch(node.name, READS, slot) for slot in slots_read(node.until))


def read_slots(nodes: Iterable[Node]) -> frozenset[str]:
    """The names of the slots that these nodes look at."""
    return frozenset(touch.slot.name for touch in touches(nodes) if touch.access in (READS, UPDATES))


def written_slots(nodes: Iterable[Node]) -> frozenset[str]:
    """The names of the slots that these nodes write, bind or update."""
    return frozenset(touch.slot.name for touch in touches(nodes) if touch.access in (WRITES, UPDATES))


def required_ports(workflow: Workflow) -> tuple[type[Port], ...]:
    """The ports that some stage cannot do without, each once, in the order they are first named."""
    return tuple(dict.fromkeys(port for stage in stages_in(workflow.body) for port in stage.ports))


def optional_ports(workflow: Workflow) -> tuple[type[Port], ...]:
    """The ports that some stage uses where the run has them, and none requires."""
    wanted = dict.fromkeys(port for stage in stages_in(workflow.body) for port in stage.optional_ports)
    required = required_ports(workflow)
    return tuple(port for port in wanted if port not in required)
