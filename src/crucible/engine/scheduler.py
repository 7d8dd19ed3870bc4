"""Which unit of work may the engine do next, and whose is it?

Order: a call goes through lanes (its session, the checkpoint it names), each first in, first out, and may run when it
is the first of all of them. Fairness: of the tenants that have a call which may run, the one goes next that has had
the least of the engine's time. Nothing here runs a call or knows a thread.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Lanes(Generic[T]):
    """Calls in the order they entered their lanes."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[T]] = {}
        self._behind: dict[T, int] = {}

    def enter(self, call: T, lanes: Iterable[Hashable]) -> bool:
        """Queue `call` at the end of each of `lanes`, all different; whether it may run at once."""
        behind = 0
        for lane in lanes:
            waiting = self._lanes.setdefault(lane, deque())
            behind += bool(waiting)
            waiting.append(call)
        if behind:
            self._behind[call] = behind
        return not behind

    def leave(self, call: T, lanes: Iterable[Hashable]) -> list[T]:
        """Take `call`, the first of each of `lanes`, out of them; the calls that may now run."""
        freed: list[T] = []
        for lane in lanes:
            waiting = self._lanes[lane]
            assert waiting[0] == call, "a call ran before its turn"
            waiting.popleft()
            if not waiting:
                del self._lanes[lane]
                continue
            self._behind[waiting[0]] -= 1
            if not self._behind[waiting[0]]:
                del self._behind[waiting[0]]
                freed.append(waiting[0])
        return freed

    def __len__(self) -> int:
        """Lanes with a call in them."""
        return len(self._lanes)


class Turns(Generic[T]):
    """Calls that may run, by tenant: start-time fair queueing (Goyal, Vin and Cheng, 1996).

    A tenant's clock advances by the time it is charged. One that comes, or comes back, starts no earlier than the
    tenant whose turn was last: it neither has the past to catch up on nor waits for others to catch up with it.
    Equals go in the order they came.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, deque[T]] = {}
        self._clocks: dict[Hashable, float] = {}
        self._waiting: list[tuple[float, int, Hashable]] = []  # a heap
        self._resting: list[tuple[float, int, Hashable]] = []  # tenants without a call, whose clock is ahead
        self._now = 0.0
        self._order = itertools.count()

    def add(self, tenant: Hashable, call: T) -> None:
        """Queue `call` behind its tenant's others."""
        if tenant in self._calls:
            self._calls[tenant].append(call)
            return
        self._calls[tenant] = deque([call])
        clock = self._clocks[tenant] = max(self._clocks.get(tenant, 0.0), self._now)
        heapq.heappush(self._waiting, (clock, next(self._order), tenant))

    def take(self) -> T | None:
        """The call whose turn it is; None if there is none. Charge its tenant before the next is taken."""
        if not self._waiting:
            return None
        self._now, _, tenant = self._waiting[0]
        while self._resting and self._resting[0][0] <= self._now:
            clock, _, rested = heapq.heappop(self._resting)
            if rested not in self._calls and self._clocks.get(rested) == clock:
                del self._clocks[rested]
        return self._calls[tenant].popleft()

    def charge(self, seconds: float) -> None:
        """Add to the clock of the tenant whose call was taken last. When no call is left, all clocks are even."""
        clock, _, tenant = heapq.heappop(self._waiting)
        clock = self._clocks[tenant] = clock + seconds
        if self._calls[tenant]:
            heapq.heappush(self._waiting, (clock, next(self._order), tenant))
            return
        del self._calls[tenant]
        heapq.heappush(self._resting, (clock, next(self._order), tenant))
        if not self._waiting:
            self._clocks.clear()
            self._resting.clear()
            self._now = 0.0

    def __len__(self) -> int:
        """Tenants that are remembered."""
        return len(self._clocks)
