"""Where in a workflow may a run be continued? A path of names: the same whatever stands between them."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from crucible.framework.nodes import Loop, Node, Stream, When, Workflow, blocks_of


@dataclass(frozen=True)
class Frame:
    """Being inside a loop, a stream or a nested workflow. iteration: how many of its iterations are complete, which
    is the number of the current one counted from 0; always 0 for a workflow."""

    node: str
    iteration: int = 0


@dataclass(frozen=True)
class Position:
    """`frames` from the outside in; `after`: the last complete named node of the innermost block; "" at its start."""

    frames: tuple[Frame, ...] = ()
    after: str = ""

    def inside(self, node: str, iteration: int = 0) -> "Position":
        """At the start of an iteration of a node of this position's block."""
        return Position((*self.frames, Frame(node, iteration)))

    def past(self, node: str) -> "Position":
        """Behind a node of this position's block."""
        return Position(self.frames, node)

    def __str__(self) -> str:
        inside = " > ".join(f"{frame.node}[{frame.iteration}]" for frame in self.frames)
        return f"{inside} > after {self.after}".strip(" >") if self.after else inside or "the beginning"


def to_plain(position: Position) -> dict[str, object]:
    """As JSON data."""
    return {"in": [[frame.node, frame.iteration] for frame in position.frames], "after": position.after}


def from_plain(data: object) -> Position:
    """The inverse of `to_plain`.

    Raises:
        ValueError: if it is no position.
    """
    plain = msgspec.convert(data, _Plain)
    return Position(tuple(Frame(node, iteration) for node, iteration in plain.inside), plain.after)


class _Plain(msgspec.Struct, frozen=True, rename={"inside": "in"}):
    inside: list[tuple[str, int]]
    after: str


BEGINNING = Position()


@dataclass(frozen=True)
class Cursor:
    """What is left of a position on the way down to it."""

    frames: tuple[Frame, ...]
    after: str

    @property
    def target(self) -> str:
        """The name to look for in the block; "" means the block's start."""
        return self.frames[0].node if self.frames else self.after

    def down(self) -> "Cursor":
        """Inside the first frame."""
        return Cursor(self.frames[1:], self.after)


def cursor_to(position: Position) -> Cursor:
    """The way to a position, from the outermost block."""
    return Cursor(position.frames, position.after)


def holds_name(node: Node, name: str) -> bool:
    """Whether it is the node of this name, or a `When` with that node in one of its branches."""
    if isinstance(node, When):
        return any(holds_name(inner, name) for block in blocks_of(node) for inner in block)
    return node.name == name


def exists(nodes: Iterable[Node], cursor: Cursor) -> bool:
    """Whether the position is one of these nodes' own: false when the workflow has changed its shape."""
    if not cursor.target:
        return True
    for node in nodes:
        if not holds_name(node, cursor.target):
            continue
        if isinstance(node, When):
            return any(exists(block, cursor) for block in blocks_of(node) if _has(block, cursor.target))
        if not cursor.frames:
            return True
        match node:
            case Loop():
                return exists(node.body, cursor.down())
            case Stream():
                return cursor.down() == Cursor((), "")
            case Workflow():
                return exists(node.body, cursor.down())
            case _:
                return False
    return False


def _has(block: Iterable[Node], name: str) -> bool:
    return any(holds_name(node, name) for node in block)
