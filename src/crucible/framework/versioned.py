"""How does a producer that runs ahead see a value that the consumer moves on, at no other moment than it should?"""

from abc import ABC, abstractmethod
from typing import Self

from crucible.framework.nodes import Stream
from crucible.framework.state import State


class Versioned(ABC):
    """A value that remembers what it was: what flows back from a stream's consumer to its producer.

    It is changed by writing a new value, never in place.
    """

    @abstractmethod
    def as_of(self, consumed: int) -> Self:
        """The value as it was when so many of the stream's items had been consumed, from its beginning on.

        A stream of capacity n asks for one of the n newest versions; older ones may be forgotten.
        """


def fed_back(stream: Stream, state: State, iteration: int) -> State:
    """The slots as produce of this item, counted from 1, sees them: what flows back, in an exact schedule, as of
    `capacity` items ago, which the consumer has passed by now."""
    if stream.schedule == "opportunistic" or not stream.feedback:
        return state
    values: dict[str, object] = {}
    for slot in stream.feedback:
        value = state.get(slot.name)
        assert isinstance(value, Versioned), "the plan refuses any other type"
        values[slot.name] = value.as_of(max(0, iteration - stream.capacity))
    return state.seen(values)
