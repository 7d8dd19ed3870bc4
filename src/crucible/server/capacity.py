"""What if a backend has no memory for one more? Then what nobody uses makes way, and what is left is waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from crucible.errors import PortError

T = TypeVar("T")
AGAIN = 1.0
"""Seconds between two tries."""


class Capacity:
    """Who waits for memory. waiting: how many do now, which those who ask for their outcome are told.

    patience: seconds that anybody waits.
    """

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self.waiting = 0

    async def when_it_fits(self, call: Callable[[], Awaitable[T]], *, make_room: Callable[[], Awaitable[bool]]) -> T:
        """What the call gives, once there is memory for it.

        make_room: frees what it can; False if there was nothing to free.

        Raises:
            PortError: if it can never fit, or not in time.
            Whatever else the call raises.
        """
        end = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                return await call()
            except PortError as error:
                if not _is_full(error) or asyncio.get_running_loop().time() > end:
                    raise
            if not await make_room():
                self.waiting += 1
                try:
                    await asyncio.sleep(AGAIN)
                finally:
                    self.waiting -= 1


def _is_full(error: PortError) -> bool:
    """Whether a backend says that it has no memory now, and would have if others needed none."""
    needed, limit = error.details.get("needed_bytes"), error.details.get("limit_bytes")
    fits = not (isinstance(needed, int | float) and isinstance(limit, int | float) and needed > limit)
    return error.retryable and error.details.get("queue_state") == "paused_capacity" and fits
