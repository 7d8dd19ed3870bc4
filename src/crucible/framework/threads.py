"""Where does blocking work run? In threads of the run's own, as many as its stages can need at once."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """At most `most` threads, each started when it is first needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], T], *, on_cancel: Callable[[], object] | None = None) -> T:
        """Call `work` in a thread and wait for its end, even if cancelled meanwhile: a thread cannot be killed, and
        nothing may be taken back while it is still at work. on_cancel: makes it end sooner; must not block.

        Raises:
            CancelledError: if this was cancelled, whatever came of the work.
            BaseException: whatever `work` raised.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(1, self._most), thread_name_prefix="stage")
        done = asyncio.wrap_future(self._pool.submit(copy_context().run, _called, work))
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError as error:
                cancelled = error
                if on_cancel is not None:
                    on_cancel()
        if cancelled is not None:
            done.exception()  # looked at, so that asyncio does not report it as forgotten
            raise cancelled
        return done.result()

    def close(self) -> None:
        """End the threads, which are idle by now. Safe to call twice."""
        if self._pool is not None:
            self._pool.shutdown()


def _called(work: Callable[[], T]) -> T:
    try:
        return work()
    except StopIteration as error:  # no future can carry one: whoever awaits it would wait for ever
        raise RuntimeError("the stage raised StopIteration") from error
