"""In which order do the requests of one model begin? By their sequence numbers, whatever order they arrive in.

A client that sends a batch in parts sends the first part last. A request that is never sent would stop the line for
ever: after `patience` seconds those that wait behind it fail, and the line goes on after them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from crucible.server.refusals import Refusal

MOST_AHEAD = 100_000
"""A sequence number so far ahead of the next one is a mistake, and not waited for."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One request.

    begin: hand it to the backend, at once; what it returns ends when the outcome is there. Neither raises.
    alone: begins when all before it have ended, and nothing begins until it has ended.
    give_up: it will not begin; its future fails with this.
    """

    begin: Callable[[], Coroutine[object, object, None]]
    alone: bool
    give_up: Callable[[Refusal], None]


class Turns:
    """The line before one model; the first number is 1. For the event loop's thread alone."""

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._next = 1
        self._waiting: dict[int, Turn] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._held = False
        self._alarm: asyncio.TimerHandle | None = None
        self._closed: Refusal | None = None

    @property
    def next(self) -> int:
        """The number that begins next."""
        return self._next

    @property
    def pending(self) -> int:
        """How many wait or run."""
        return len(self._waiting) + len(self._running)

    def offer(self, number: int, turn: Turn) -> None:
        """Put a request into the line. A number that had its turn, or was given up, gives the request up."""
        if self._closed is not None:
            turn.give_up(self._closed)
        elif number < self._next:
            turn.give_up(Refusal(400, f"request {number} came too late: the model is at request {self._next}"))
        elif number > self._next + MOST_AHEAD:
            turn.give_up(Refusal(400, f"request {number} is too far ahead: the model is at request {self._next}"))
        else:
            assert number not in self._waiting, "a replay is not offered"
            self._waiting[number] = turn
            self._advance()

    def close(self, reason: Refusal) -> None:
        """Give up all that waits, now and later; what runs goes on."""
        self._closed = reason
        self._set_alarm(on=False)
        waiting, self._waiting = self._waiting, {}
        for turn in waiting.values():
            turn.give_up(reason)

    async def settled(self) -> None:
        """Wait for what runs."""
        while self._running:
            await asyncio.wait(self._running)

    def _advance(self) -> None:
        while not self._held and self._next in self._waiting:
            if self._waiting[self._next].alone and self._running:
                return
            turn = self._waiting.pop(self._next)
            self._next += 1
            self._held = turn.alone
            task = asyncio.get_running_loop().create_task(turn.begin())
            self._running.add(task)
            task.add_done_callback(self._ended)
        self._set_alarm(on=bool(self._waiting) and self._next not in self._waiting)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._running:
            self._held = False
        if not task.cancelled():
            assert task.exception() is None, task.exception()
        if self._waiting:
            self._advance()

    def _set_alarm(self, *, on: bool) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if on:
            self._alarm = asyncio.get_running_loop().call_later(self._patience, self._lose_patience)

    def _lose_patience(self) -> None:
        self._alarm = None
        missing = self._next
        late, self._waiting = self._waiting, {}
        self._next = max(late) + 1
        message = f"request {missing} of this model did not arrive within {self._patience:g} seconds"
        for number in sorted(late):
            late[number].give_up(Refusal(400, f"{message}; request {number}, which comes after it, is given up"))
