"""What is wrong with this workflow before it runs? Everything, at once."""

from collections.abc import Iterator, Mapping

from crucible.errors import Problem
from crucible.framework.check_flow import (
    checkpoint_problems,
    depth_problems,
    parallel_problems,
    slot_problems,
    unwritten_problems,
)
from crucible.framework.check_node import node_problems
from crucible.framework.nodes import NODES, Loop, Node, Parallel, Stream, When, Workflow, blocks_of, path_of, placed
from crucible.framework.stage import Stage
from crucible.framework.survival import survival_problems
from crucible.ports import Port


def check(workflow: Workflow, *, ports: Mapping[str, Port] | None = None) -> list[Problem]:
    """Every problem that shows before anything runs; empty means that the workflow can be executed.

    ports: the run's adapters by port name; None leaves the ports unchecked.
    """
    problems = [*_name_problems((workflow,), "", {})]
    for path, node in placed(workflow.body, workflow.name):
        problems += node_problems(node, path)
        if isinstance(node, Loop | Stream):
            problems += depth_problems(node, path)
        elif isinstance(node, Parallel):
            problems += parallel_problems(node, path)
    problems += checkpoint_problems(workflow.body, workflow.name)
    problems += unwritten_problems(workflow)
    problems += slot_problems(workflow)
    if not problems:  # what follows walks the workflow as it would run
        problems += survival_problems(workflow)
    problems += () if ports is None else _port_problems(workflow, ports)
    return problems


def _name_problems(nodes: tuple[Node, ...], parent: str, taken: dict[str, str]) -> Iterator[Problem]:
    """taken: the path at which each name of the enclosing workflow was first given."""
    for node in nodes:
        path = path_of(node, parent) if parent else getattr(node, "name", "")
        if not isinstance(node, When) and isinstance(node, NODES):
            name = node.name
            if not name:
                yield Problem(what=f"a {type(node).__name__} needs a name", where=path)
            elif name in taken:
                yield Problem(what="the name is taken", where=path, given=name, fix=f"Rename it or {taken[name]}")
            taken.setdefault(name, path)
        if isinstance(node, Workflow) and not node.body:
            yield Problem(what="the workflow has no nodes", where=path)
        inner = {} if isinstance(node, Workflow) else taken
        for block in blocks_of(node):
            yield from _name_problems(tuple(block), path, inner)


def _port_problems(workflow: Workflow, ports: Mapping[str, Port]) -> Iterator[Problem]:
    told: set[type[Port]] = set()
    for path, node in placed(workflow.body, workflow.name):
        if not isinstance(node, Stage):
            continue
        for kind in (*node.ports, *node.optional_ports):
            adapter = ports.get(kind.port_name)
            if kind in told or isinstance(adapter, kind) or (adapter is None and kind not in node.ports):
                continue
            told.add(kind)
            if adapter is None:
                fix = f"Give an adapter for {kind.port_name}, in the manifest or as an override"
                yield Problem(
                    what=f"the stage needs the port {kind.port_name}, which this run lacks", where=path, fix=fix
                )
            else:
                yield Problem(
                    what=f"the adapter for {kind.port_name} is no {kind.__name__}",
                    where=path,
                    given=type(adapter).__name__,
                )
