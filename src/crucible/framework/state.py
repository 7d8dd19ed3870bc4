"""What is in the slots now, what was in them when a pipelined iteration's body ended, and what is only drafted?"""

from collections.abc import Iterable, Mapping

from crucible.errors import WorkflowError


class State:
    """The slots' values, by name.

    `held(names)` is a view for settling an iteration later: it keeps those slots as they are now, shares all
    the others, and writes through; `seen(values)` is one that shows other values. `draft()` is a state of its own over
    this one, which its `commit` writes down.
    """

    __slots__ = ("_below", "_live", "_names", "_own", "_under")

    def __init__(self, below: "State | None" = None) -> None:
        self._live: dict[str, object] = {}
        self._own = self._live
        self._names: frozenset[str] = frozenset()
        self._under: State | None = None
        self._below = below

    def get(self, name: str) -> object:
        """The slot's value.

        Raises:
            WorkflowError: if nothing was written to it yet.
        """
        values = self._values_for(name)
        if name in values:
            return values[name]
        if self._below is not None:
            return self._below.get(name)
        raise WorkflowError.of("this slot is read before anything is written to it", given=name)

    def has(self, name: str) -> bool:
        """Whether the slot holds a value in this view."""
        return name in self._values_for(name) or (self._below is not None and self._below.has(name))

    def put(self, name: str, value: object) -> None:
        """Write the slot; every view that does not hold it sees the new value."""
        self._live[name] = value

    def held(self, names: Iterable[str]) -> "State":
        """A view that keeps these slots as they are now."""
        view = State(self._below)
        view._live = self._live
        view._names = frozenset(names)
        view._own = {name: self.get(name) for name in view._names if self.has(name)}
        view._under = self
        return view

    def seen(self, values: Mapping[str, object]) -> "State":
        """A view that shows these values of these slots, shares all the others, and writes through."""
        view = self.held(())
        view._names, view._own = frozenset(values), dict(values)
        return view

    def draft(self) -> "State":
        """A state whose writes reach this one only by `commit`: a failed attempt's or branch's are forgotten."""
        return State(self)

    def commit(self) -> None:
        """Write a draft's values to the state that it was drafted on."""
        assert self._below is not None, "only a draft is committed"
        for name, value in self._live.items():
            self._below.put(name, value)

    def values(self) -> dict[str, object]:
        """A copy of the live values."""
        return dict(self._live)

    def _values_for(self, name: str) -> dict[str, object]:
        view = self
        while view._under is not None and name not in view._names:
            view = view._under
        return view._own
