"""How does a submitted request come back? As a `Future`: awaitable, and blocking by `result()`."""

import asyncio
import concurrent.futures
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")


def _seen(waiting: "asyncio.Future[Any]") -> None:
    """A failure that nobody waits for any more is no news: whoever still holds the future can read it there."""
    if not waiting.cancelled():
        waiting.exception()


class Future(Generic[T]):
    """The outcome of a submitted request.

    It may be awaited many times and from any event loop; each await gives the same value or raises the
    same exception. Cancelling the task that awaits does not cancel the request: what was submitted runs.
    """

    def __init__(self, source: "concurrent.futures.Future[T]") -> None:
        self._source = source

    def result(self, timeout: float | None = None) -> T:
        """Block until done; `timeout` in seconds.

        Raises:
            TimeoutError: if it is not done in time; the request goes on.
        """
        return self._source.result(timeout)

    def done(self) -> bool:
        """Whether `result()` would return or raise at once."""
        return self._source.done()

    def __await__(self) -> Generator[object, None, T]:
        waiting = asyncio.wrap_future(self._source)
        waiting.add_done_callback(_seen)
        return asyncio.shield(waiting).__await__()

    @staticmethod
    def ready(value: V) -> "Future[V]":
        """A future that is done."""
        source: concurrent.futures.Future[V] = concurrent.futures.Future()
        source.set_result(value)
        return Future(source)

    @staticmethod
    def of(call: Callable[[], V]) -> "Future[V]":
        """Run `call` now, in this thread; its value or its exception is the outcome."""
        source: concurrent.futures.Future[V] = concurrent.futures.Future()
        try:
            source.set_result(call())
        except Exception as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
            source.set_exception(error)
        return Future(source)
