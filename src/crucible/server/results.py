"""Where is the outcome of a request until its client has read it? Here, under the request's id.

It can be read as often as one likes until it expires: a client that polls twice at once, or again after a lost
connection, gets the same bytes.
"""

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from crucible.server.refusals import Failure, Refusal

PROTOBUF, JSON = "application/x-protobuf", "application/json"
MediaType: TypeAlias = Literal["application/x-protobuf", "application/json"]
_ID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{1,12})-[0-9a-f]{12}")


@dataclass(frozen=True, kw_only=True)
class Payload:
    """An outcome as it is sent."""

    body: bytes
    media_type: MediaType = JSON

    @classmethod
    def of(cls, value: object) -> "Payload":
        """A value as JSON."""
        return cls(body=msgspec.json.encode(value))


@dataclass(eq=False, kw_only=True, slots=True)
class Result:
    """One request's outcome, once it is there. read: its client had it once.

    done: it is there, or was: what has expired has no payload any more, whoever still holds this.
    """

    request_id: str
    owner: str
    number: int
    payload: Payload | None = None
    done: bool = False
    failed: bool = False
    read: bool = False
    expires_at: float = 0.0
    waiting: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])
    on_done: Callable[["Result"], None] | None = None


class Results:
    """All requests' outcomes. For the event loop's thread alone.

    keep: seconds that an outcome can be read, from when it is there. most_bytes: of all outcomes; beyond it those go
    that were read, then the oldest. clock: seconds, going up.
    """

    def __init__(self, *, keep: float, most_bytes: int, clock: Callable[[], float]) -> None:
        self._keep, self._most_bytes, self._clock = keep, most_bytes, clock
        self._boot = secrets.token_hex(4)
        self._issued = 0
        self._drawn: list[str] = []
        self._all: dict[str, Result] = {}
        self._done: dict[str, Result] = {}  # in the order in which they were done
        self._bytes = 0

    def open(self, owner: str, *, on_done: Callable[[Result], None] | None = None) -> Result:
        """A place for an outcome to come. on_done: called when it is there."""
        self._issued += 1
        request_id = f"{self._boot}-{self._issued:x}-{self._chance()}"
        result = Result(request_id=request_id, owner=owner, number=self._issued, on_done=on_done)
        self._all[request_id] = result
        return result

    def finish(self, result: Result, payload: Payload) -> None:
        """The outcome is there; whoever waits is told. The first one counts."""
        if result.done:
            return
        result.done = True
        result.payload, result.expires_at = payload, self._clock() + self._keep
        self._done[result.request_id] = result
        self._bytes += len(payload.body)
        for waiter in result.waiting:
            if not waiter.done():
                waiter.set_result(None)
        result.waiting.clear()
        if result.on_done is not None:
            result.on_done(result)
        if self._bytes > self._most_bytes:
            self._make_room()

    def fail(self, result: Result, failure: Failure) -> None:
        """The outcome is that there is none."""
        if not result.done:
            result.failed = True
            self.finish(result, Payload.of({"error": failure.error, "category": failure.category}))

    def find(self, request_id: str, owner: str) -> Result:
        """The owner's request.

        Raises:
            Refusal: 410 if it may have been here once (another key's looks the same), 404 if it cannot have been.
        """
        result = self._all.get(request_id)
        if result is not None and result.owner == owner:
            return result
        raise self.gone(request_id)

    def gone(self, request_id: str) -> Refusal:
        """Why there is no outcome of this id."""
        parsed = _ID.fullmatch(request_id)
        if parsed is None or (parsed[1] == self._boot and int(parsed[2], 16) > self._issued):
            return Refusal(404, f"there is no request {request_id[:64]!r}")
        why = "its time is over" if parsed[1] == self._boot else "the server started anew since it was sent"
        return Refusal(410, f"the outcome of request {request_id} is gone: {why}")

    async def wait(self, result: Result, seconds: float) -> bool:
        """Wait for the outcome; False if it is not there in time."""
        if result.done:
            return True
        waiter = asyncio.get_running_loop().create_future()
        result.waiting.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return result.done
        finally:
            if waiter in result.waiting:
                result.waiting.remove(waiter)
        return True

    def drop(self, request_id: str, owner: str) -> None:
        """Forget an outcome that its client says it has; nothing if it is not there or not done."""
        result = self._done.get(request_id)
        if result is not None and result.owner == owner:
            self._forget(result)

    def sweep(self) -> None:
        """Forget what has expired."""
        now = self._clock()
        while self._done:
            oldest = next(iter(self._done.values()))
            if oldest.expires_at > now:
                return
            self._forget(oldest)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Requests under way, outcomes kept, bytes of those."""
        return len(self._all) - len(self._done), len(self._done), self._bytes

    def _chance(self) -> str:
        """12 random hex digits. Drawn many at a time: each system call lets another thread in first."""
        if not self._drawn:
            drawn = secrets.token_hex(6 * 1024)
            self._drawn = [drawn[start : start + 12] for start in range(0, len(drawn), 12)]
        return self._drawn.pop()

    def _make_room(self) -> None:
        for only_read in (True, False):
            for result in [r for r in self._done.values() if r.read or not only_read]:
                if self._bytes <= self._most_bytes * 3 // 4 or len(self._done) == 1:
                    return
                self._forget(result)

    def _forget(self, result: Result) -> None:
        assert result.payload is not None, "only what is done is forgotten, and once"
        self._bytes -= len(result.payload.body)
        result.payload = None
        del self._all[result.request_id], self._done[result.request_id]
