"""Does a future keep its promise: awaited many times, anywhere, one outcome?"""

import asyncio
import threading
from typing import TypeVar

from crucible.ports.future import Future

T = TypeVar("T")


async def _await(future: Future[T]) -> T:
    return await future


def outcomes(future: Future[T], *, wait: float) -> list[T]:
    """The values that two event loops, another thread and two blocking reads give, in that order."""
    values = [asyncio.run(_await(future)), asyncio.run(_await(future))]
    thread = threading.Thread(target=lambda: values.append(future.result(wait)))
    thread.start()
    thread.join(wait)
    assert not thread.is_alive(), "a future's result() did not return in another thread"
    return [*values, future.result(wait), future.result(wait)]
