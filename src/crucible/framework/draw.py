"""What does a workflow look like? A text tree, and a mermaid flow chart."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from crucible.framework.conditions import phrase
from crucible.framework.declaration import slots_of
from crucible.framework.nodes import Loop, Node, Parallel, Range, Stream, When, Workflow
from crucible.framework.slot import READS, WRITES
from crucible.framework.stage import Stage


def draw_text(workflow: Workflow) -> str:
    """A tree, one line per node: `name: Type(slots read) → slots written`. An updated slot is on both sides."""
    return "\n".join([workflow.name, *_lines(_tree(workflow.body), "")])


def draw_mermaid(workflow: Workflow) -> str:
    """A flow chart in mermaid's language, a box in a box for every loop, branch and nested workflow."""
    return "\n".join(["flowchart TD", *_chart(_tree(workflow.body), "  ", count(1))])


@dataclass(frozen=True)
class _Drawn:
    label: str
    inside: "tuple[_Drawn, ...]" = ()


def _tree(nodes: Iterable[Node]) -> tuple[_Drawn, ...]:
    return tuple(drawn for node in nodes for drawn in _draw(node))


def _draw(node: Node) -> Iterator[_Drawn]:
    match node:
        case Stage():
            yield _Drawn(_stage_label(node))
        case Loop():
            body = _tree(node.body)
            if node.settle:
                late = f"settle, {node.depth} behind" if node.depth else "settle"
                body += (_Drawn(late, _tree(node.settle)),)
            yield _Drawn(_loop_label(node), body)
        case When():
            yield _Drawn(f"when {phrase(node.condition)}", _tree(node.then))
            if node.otherwise:
                yield _Drawn("otherwise", _tree(node.otherwise))
        case Parallel():
            branches = tuple(_Drawn(f"branch {n}", _tree(branch)) for n, branch in enumerate(node.branches, start=1))
            yield _Drawn(f"{node.name}: in parallel", branches)
        case Stream():
            ends = (_Drawn("produce", _tree(node.produce)), _Drawn("consume", _tree(node.consume)))
            back = f", {', '.join(slot.name for slot in node.feedback)} flowing back" if node.feedback else ""
            yield _Drawn(f"{node.name}: stream {_items_label(node)}, at most {node.capacity} ahead{back}", ends)
        case Workflow():
            yield _Drawn(f"{node.name}: workflow", _tree(node.body))


def _stage_label(stage: Stage) -> str:
    used = [(declared.access, slot.name) for _, declared, slot in slots_of(stage)]
    reads = ", ".join(dict.fromkeys(name for access, name in used if access != WRITES))
    writes = ", ".join(dict.fromkeys(name for access, name in used if access != READS))
    return f"{stage.name}: {type(stage).__name__}({reads})" + (f" → {writes}" if writes else "")


def _loop_label(loop: Loop) -> str:
    until = f", until {phrase(loop.until)}" if loop.until else ""
    return f"{loop.name}: loop {_items_label(loop)}{until}"


def _items_label(loop: Loop | Stream) -> str:
    over = f"{loop.over.n} times" if isinstance(loop.over, Range) else f"over {loop.over.name}"
    return over + (f", each as {loop.bind.name}" if loop.bind else "")


def _lines(nodes: tuple[_Drawn, ...], margin: str) -> Iterator[str]:
    for node in nodes:
        last = node is nodes[-1]
        yield f"{margin}{'└── ' if last else '├── '}{node.label}"
        yield from _lines(node.inside, margin + ("    " if last else "│   "))


def _chart(nodes: tuple[_Drawn, ...], margin: str, numbers: "count[int]") -> Iterator[str]:
    """Each node as a box, boxes inside it, then an arrow from the one before."""
    before = ""
    for node in nodes:
        name = f"n{next(numbers)}"
        label = node.label.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
        if node.inside:
            yield f'{margin}subgraph {name}["{label}"]'
            yield from _chart(node.inside, margin + "  ", numbers)
            yield f"{margin}end"
        else:
            yield f'{margin}{name}["{label}"]'
        if before:
            yield f"{margin}{before} --> {name}"
        before = name
