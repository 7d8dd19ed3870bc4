"""Where does a node run?"""

from collections.abc import Callable
from dataclasses import dataclass, field

from crucible.framework.entries import Entry, Request
from crucible.framework.position import BEGINNING, Position
from crucible.framework.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the nodes of one block share.

    path: of the enclosing node. record: takes what stages record. requests: takes the checkpoints they ask for;
    above: those of the enclosing loops' iterations, from the outside in, which wait for these to end.
    prefix: of stage names inside a nested workflow. iteration: the enclosing loop's, from 1; 0 outside of loops.
    position: of the block's start. boundaries: whether the run can be continued after each of the block's nodes;
    loops: whether it can inside loops of this block. branch: of which branches of `Parallel` nodes it is a part, from
    the outside in, each by a number of its own.
    """

    path: str
    state: State
    record: Callable[[Entry], None]
    requests: list[Request] = field(default_factory=list[Request])
    above: tuple[list[Request], ...] = ()
    prefix: str = ""
    iteration: int = 0
    position: Position = BEGINNING
    boundaries: bool = True
    loops: bool = True
    branch: tuple[int, ...] = ()
