"""How does ordinary code wait for a coroutine, even where an event loop is running already (a notebook)?"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_GLANCE = 0.1
"""Seconds between looks at whether the waiting task was cancelled: how a loop hears of Ctrl-C."""


def block_on(work: Coroutine[Any, Any, T]) -> T:
    """Its result, or what it raised. Where a loop is running, the work has a loop and a thread of its own.

    Ctrl-C, or the end of the task that waits, cancels the work; it returns when the work has ended.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    begun: Future[_Cancel] = Future()
    outcome: Future[T] = Future()

    async def announced() -> T:
        begun.set_result(_Cancel())
        return await work

    def in_own_loop() -> None:
        try:
            outcome.set_result(asyncio.run(announced()))
        except BaseException as error:  # noqa: BLE001  (handed to the caller's thread and raised there)
            outcome.set_exception(error)

    threading.Thread(target=in_own_loop, name="crucible-run").start()
    waiting = asyncio.current_task()
    heard = waiting.cancelling() if waiting else 0
    try:
        while not wait([outcome], timeout=_GLANCE).done:
            if waiting and waiting.cancelling() > heard:
                heard = waiting.cancelling()
                begun.result()()
    except KeyboardInterrupt:
        begun.result()()
        wait([outcome])
        raise
    return outcome.result()


class _Cancel:
    """Cancels, from any thread, the task it was made in."""

    def __init__(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

    def __call__(self) -> None:
        assert self._task is not None, "it is made inside a task"
        with suppress(RuntimeError):  # the loop is closed: the work has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
