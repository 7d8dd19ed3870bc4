"""How is a checkpoint written while training goes on? From a copy, on a thread of its own, one at a time."""

import concurrent.futures
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

T = TypeVar("T")


class Writer:
    """Runs one write at a time beside the engine's thread. A second one waits for the first: training never gets
    further ahead of what is on the disk than one checkpoint.

    guard: a context manager that every write runs in; it may translate exceptions.
    """

    def __init__(self, *, guard: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._guard = guard
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="crucible-writer")
        self._current: concurrent.futures.Future[object] | None = None

    def submit(self, write: Callable[[], T]) -> "concurrent.futures.Future[T]":
        """Begin a write when the one before it is done, and return."""
        self.wait()

        def guarded() -> T:
            with self._guard():
                return write()

        begun = self._thread.submit(guarded)
        self._current = begun  # pyright: ignore[reportAttributeAccessIssue]  (only ever waited for)
        return begun

    def wait(self) -> None:
        """Return when nothing is being written; what went wrong is its own reader's to hear."""
        if self._current is not None:
            concurrent.futures.wait([self._current])
            self._current = None

    def close(self) -> None:
        """Finish what is being written, then end the thread. Safe to call twice."""
        self._thread.shutdown(wait=True)
