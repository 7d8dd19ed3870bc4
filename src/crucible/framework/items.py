"""Over what does a loop run, from its n-th item on?"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

from crucible.errors import WorkflowError
from crucible.framework.nodes import Loop, Range, Stream
from crucible.framework.state import State


def items_of(loop: Loop | Stream, state: State, *, path: str, start: int) -> Iterable[object]:
    """What is left of the items from the number `start` on.

    Raises:
        WorkflowError: if its slot holds no iterable, or one that a continued run could not go through again.
    """
    if isinstance(loop.over, Range):
        return range(start, loop.over.n)
    items: Any = state.get(loop.over.name)
    if isinstance(items, Iterator | set | frozenset):
        kind = type(cast("object", items)).__name__
        what = f"the loop runs over a {kind}, which a continued run could not go through again in the same order"
        fix = "Write a list, or something that can be iterated again"
        raise WorkflowError.of(what, where=path, given=loop.over.name, fix=fix)
    if start and isinstance(items, Sequence):
        return map(cast("Sequence[object]", items).__getitem__, range(start, len(cast("Sequence[object]", items))))
    try:
        return islice(iter(items), start, None)
    except TypeError as error:
        what = f"the loop runs over a slot that holds a {type(items).__name__}"
        raise WorkflowError.of(what, where=path, given=loop.over.name, fix="Write an iterable to it") from error
