"""Which sampling request goes to the backend next? One of each session in turn, so that nobody waits behind thousands
of another's.

The backend has a bounded number of completions at a time; the rest wait here, where a request whose client cancelled
it, or is gone, costs nothing when its turn comes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

MOST_AT_BACKEND = 128
"""Completions: four times the engine's slots, so that it always has the next ones at hand."""


class SamplingLine:
    """Places at the backend. For the event loop's thread alone.

    most: completions that it has at a time; a request for more has all places.
    """

    def __init__(self, *, most: int = MOST_AT_BACKEND) -> None:
        self._most = self._free = most
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}  # the session whose turn it is is first

    @asynccontextmanager
    async def place(self, session_id: str, completions: int) -> AsyncGenerator[None]:
        """A place for a session's request, as long as the block."""
        count = max(1, min(completions, self._most))
        if self._waiting or self._free < count:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(session_id, deque()).append((count, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._free += count
                self._next()
                raise
        else:
            self._free -= count
        try:
            yield
        finally:
            self._free += count
            self._next()

    def _next(self) -> None:
        while self._waiting:
            session_id, requests = next(iter(self._waiting.items()))
            count, turn = requests[0]
            if not turn.done() and count > self._free:
                return
            del self._waiting[session_id]
            requests.popleft()
            if requests:
                self._waiting[session_id] = requests  # behind the others
            if not turn.done():
                self._free -= count
                turn.set_result(None)
