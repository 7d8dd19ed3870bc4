"""Which of a sampling session's requests are done? For clients that ask once for all of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from crucible.server.results import Result


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A request that is done. size: bytes of its outcome."""

    cursor: int
    request_id: str
    failed: bool
    size: int


MOST = 100_000
"""So many that no client has asked for are remembered; then the oldest go."""


class Completions:
    """Those of one client of a sampling session, in the order they were done, until the client has seen them."""

    def __init__(self) -> None:
        self._done: list[Completion] = []
        self._cursor = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def cursor(self) -> int:
        """Of the last that was done."""
        return self._cursor

    def add(self, result: Result) -> None:
        """A request is done."""
        assert result.payload is not None, "it was done just now"
        self._cursor += 1
        done = Completion(
            cursor=self._cursor, request_id=result.request_id, failed=result.failed, size=len(result.payload.body)
        )
        self._done.append(done)
        if len(self._done) > MOST:
            del self._done[: MOST // 2]
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def after(self, cursor: int, *, seconds: float) -> Sequence[Completion]:
        """Those after `cursor`, as soon as there is one; none if there is none in time. The others are forgotten."""
        self._done = [done for done in self._done if done.cursor > cursor]
        if not self._done and seconds > 0:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                async with asyncio.timeout(seconds):
                    await waiter
            except TimeoutError:
                pass
            finally:
                self._waiting.remove(waiter)
        return tuple(self._done)
