"""Which weights does the sampling port hold open? Those that were used last, each once, however many sample from them.

The SDK has no call that ends a sampling session, and a client makes a new one every step: those that are idle are
closed, the longest idle first, and opened again when they are asked for.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from crucible.ports.sampling_client import SamplingClient, SamplingSession
from crucible.server.capacity import Capacity
from crucible.server.refusals import Refusal

MOST_OPEN = 16
"""So many stay open when nobody uses them."""
Key: TypeAlias = tuple[str, str | None]


@dataclass(eq=False, kw_only=True)
class Weights:
    """Weights that may be sampled from: a model reference, and where an adapter is saved.

    owners: sampling sessions and runs that may use them again; users: requests that use them now.
    afterwards: run once, when there are neither any more.
    """

    key: Key
    owners: int = 0
    users: int = 0
    opened: asyncio.Task[SamplingSession] | None = None
    afterwards: Callable[[], Awaitable[None]] | None = None


class OpenWeights:
    """The sampling port's sessions. For the event loop's thread alone.

    spawn: runs a coroutine in the background. most: that stay open when nobody uses them.
    """

    def __init__(
        self,
        sampling: SamplingClient,
        *,
        capacity: Capacity,
        spawn: Callable[[Awaitable[None]], None],
        most: int = MOST_OPEN,
    ) -> None:
        self._sampling, self._capacity, self._spawn, self._most = sampling, capacity, spawn, most
        self._known: dict[Key, Weights] = {}
        self._open: dict[Key, Weights] = {}  # the one that was used last is last

    async def own(
        self, reference: str, path: str | None, *, afterwards: Callable[[], Awaitable[None]] | None = None
    ) -> Weights:
        """Weights to be used until `disown`, opened now to see that they can be.

        Raises:
            ModelError, CheckpointError, PortError: if they cannot.
        """
        key = (reference, path)
        weights = self._known.setdefault(key, Weights(key=key, afterwards=afterwards))
        weights.owners += 1
        try:
            async with self.used(weights):
                return weights
        except BaseException:
            self.disown(weights)
            raise

    def share(self, weights: Weights) -> None:
        """One more owner of what is owned."""
        assert weights.owners > 0, "what nobody owns may be gone"
        weights.owners += 1

    def disown(self, weights: Weights) -> None:
        """They are not used by this owner any more."""
        weights.owners -= 1
        self._settle(weights)

    @asynccontextmanager
    async def used(self, weights: Weights) -> AsyncGenerator[SamplingSession]:
        """The port's session of them, open as long as the block.

        Raises:
            Refusal: 410 if nobody owns them any more.
            ModelError, CheckpointError, PortError: if they cannot be opened.
        """
        if weights.owners == 0:
            raise Refusal(410, "the sampling session has ended")
        weights.users += 1
        try:
            yield await self._session(weights)
        finally:
            weights.users -= 1
            self._settle(weights)

    async def close_idle(self) -> bool:
        """Close all that nobody uses now; False if there was none."""
        idle = [weights for weights in self._open.values() if weights.users == 0]
        await asyncio.gather(*(self._close(weights) for weights in idle))
        return bool(idle)

    async def _session(self, weights: Weights) -> SamplingSession:
        if weights.opened is None:
            weights.opened = asyncio.create_task(self._start(weights))
        task = weights.opened
        try:
            session = await asyncio.shield(task)
        except BaseException:
            if task.done() and weights.opened is task:
                weights.opened = None
            raise
        self._open.pop(weights.key, None)
        self._open[weights.key] = weights
        return session

    async def _start(self, weights: Weights) -> SamplingSession:
        reference, path = weights.key

        async def start() -> SamplingSession:
            return await self._sampling.start_session(base_model=reference, model_path=path)

        return await self._capacity.when_it_fits(start, make_room=self.close_idle)

    def _settle(self, weights: Weights) -> None:
        if weights.users == 0 and weights.owners == 0 and self._known.get(weights.key) is weights:
            del self._known[weights.key]
            self._spawn(self._end(weights))
        while len(self._open) > self._most:
            idle = next((each for each in self._open.values() if each.users == 0), None)
            if idle is None:
                return
            self._spawn(self._close(idle))

    async def _end(self, weights: Weights) -> None:
        await self._close(weights)
        if weights.afterwards is not None:
            await weights.afterwards()

    def _close(self, weights: Weights) -> Awaitable[None]:
        """Closed from now on; what is returned says when the port has closed it too."""
        task, weights.opened = weights.opened, None
        self._open.pop(weights.key, None)
        return self._closed(task)

    async def _closed(self, task: asyncio.Task[SamplingSession] | None) -> None:
        if task is not None:
            await self._sampling.close_session(await task)
