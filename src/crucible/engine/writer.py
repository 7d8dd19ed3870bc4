"""How is a checkpoint written while training goes on? From a copy, on a thread of its own, one at a time."""

import concurrent.futures
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from crucible.engine.worker import Steps

T = TypeVar("T")


class Writer:
    """Runs one write at a time beside the engine's thread. Who saves waits for the write before it (while others run):
    copies cost memory, and training never gets further ahead of what is on the disk than one checkpoint.

    guard: a context manager that every write runs in; it may translate exceptions.
    """

    def __init__(self, *, guard: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._guard = guard
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="crucible-writer")
        self._current: concurrent.futures.Future[object] | None = None

    def idle(self) -> Steps[None]:
        """Wait until nothing is being written; what went wrong is its own reader's to hear."""
        while self._current is not None and not self._current.done():
            yield self._current
        self._current = None

    def submit(self, write: Callable[[], T]) -> "concurrent.futures.Future[T]":
        """Begin a write, nothing being written, and return."""
        assert self._current is None or self._current.done(), "one write at a time: wait for `idle` first"

        def guarded() -> T:
            with self._guard():
                return write()

        begun = self._thread.submit(guarded)
        self._current = begun  # pyright: ignore[reportAttributeAccessIssue]  (only ever waited for)
        return begun

    def close(self) -> None:
        """Finish what is being written, then end the thread. Safe to call twice."""
        self._thread.shutdown(wait=True)
