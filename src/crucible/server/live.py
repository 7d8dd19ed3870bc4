"""What is open right now? Everything that a server holds in memory, and how it ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from crucible.ports.model_facts import ModelFacts
from crucible.server.capacity import Capacity
from crucible.server.opened import OpenWeights
from crucible.server.refusals import LOGGER, Refusal
from crucible.server.results import Results
from crucible.server.sampling_line import MOST_AT_BACKEND, SamplingLine
from crucible.server.served import Served
from crucible.server.sessions import Run, Sampler, Session, Source
from crucible.store.server_records import EndReason

T = TypeVar("T")
TOUCH_SECONDS = 30.0
"""How often the store is told which runs were used."""


class Live:
    """The state behind the routes. For the event loop's thread alone.

    at_backend: completions that the backend has at a time; the rest wait. clock: seconds, going up, by which sessions
    and results expire.
    """

    def __init__(
        self, served: Served, *, at_backend: int = MOST_AT_BACKEND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.served, self.clock = served, clock
        self.limits = served.limits
        self.results = Results(keep=self.limits.result_ttl, most_bytes=self.limits.result_bytes, clock=clock)
        self.capacity = Capacity(patience=self.limits.missing_request_timeout)
        self.weights = OpenWeights(served.sampling, capacity=self.capacity, spawn=self.spawn)
        self.line = SamplingLine(most=at_backend)
        self.sessions: dict[str, Session] = {}
        self.runs: dict[str, Run] = {}
        self.samplers: dict[str, Sampler] = {}
        self.waiting_samples = 0
        self._facts: dict[str, ModelFacts | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._touched_at = clock()

    def spawn(self, work: Awaitable[None]) -> None:
        """Run it in the background; a failure is logged."""
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def in_thread(self, call: Callable[..., T], *args: object, **options: object) -> T:
        """Run what blocks."""
        return await asyncio.to_thread(partial(call, *args, **options))

    async def facts(self, reference: str) -> ModelFacts | None:
        """The base model's facts; asked for once."""
        if reference not in self._facts:
            self._facts[reference] = await self.in_thread(self.served.training.model_facts, reference)
        return self._facts[reference]

    async def session(self, session_id: str, owner: str) -> Session:
        """The owner's open session.

        Raises:
            Refusal: 410 if it has ended, 404 if there never was one.
        """
        session = self.sessions.get(session_id)
        if session is not None and session.owner == owner:
            session.seen_at = self.clock()
            return session
        record = await self.in_thread(self.served.store.session, session_id, owner=owner)
        if record is None:
            raise Refusal(404, f"there is no session {session_id[:100]!r}")
        why = f"{record.end_reason}: {record.end_detail}" if record.end_detail else record.end_reason or "lost"
        raise Refusal(410, f"session {session_id} has ended ({why})")

    async def run(self, run_id: str, owner: str) -> Run:
        """The owner's open run.

        Raises:
            Refusal: 410 if its session has ended, 404 if there never was one.
        """
        run = self.runs.get(run_id)
        if run is not None and run.session.owner == owner:
            run.session.seen_at = run.used_at = self.clock()
            return run
        if await self.in_thread(self.served.store.run, run_id, owner=owner) is None:
            raise Refusal(404, f"there is no model {run_id[:100]!r}")
        raise Refusal(410, f"the session of model {run_id} has ended: make a new model from its last checkpoint")

    async def sampler(self, sampler_id: str, owner: str) -> Sampler:
        """The owner's open sampling session.

        Raises:
            Refusal: 410 if its session has ended, 404 if there never was one.
        """
        sampler = self.samplers.get(sampler_id)
        if sampler is not None and sampler.session.owner == owner:
            sampler.session.seen_at = self.clock()
            return sampler
        if await self.in_thread(self.served.store.sampler, sampler_id, owner=owner) is None:
            raise Refusal(404, f"there is no sampling session {sampler_id[:100]!r}")
        raise Refusal(410, f"the session of sampling session {sampler_id} has ended: make a new one")

    def end(self, session: Session, *, reason: EndReason, detail: str = "") -> None:
        """End a session: what waits fails, what runs goes on, and the backend frees what it held."""
        if session.ended:
            return
        session.ended = True
        del self.sessions[session.session_id]
        for run in tuple(session.runs.values()):
            self.close_run(run, Refusal(410, f"session {session.session_id} has ended ({reason})"))
        for sampler in tuple(session.samplers.values()):
            self.close_sampler(sampler)
        self.spawn(self.in_thread(self.served.store.end_session, session.session_id, reason=reason, detail=detail))

    def close_run(self, run: Run, reason: Refusal) -> None:
        """End a run; what of it runs goes on."""
        del self.runs[run.run_id], run.session.runs[run.run_id]
        run.turns.close(reason)
        if run.inflight is not None:
            self.drop(run.inflight)
        self.spawn(self._close_training(run))

    def close_sampler(self, sampler: Sampler) -> None:
        """End a sampling session; requests under way keep its weights until they are done."""
        del self.samplers[sampler.sampler_id], sampler.session.samplers[sampler.sampler_id]
        self.drop(sampler.source)

    def drop(self, source: Source) -> None:
        """One holder less of what is sampled from."""
        source.holders -= 1
        if source.holders == 0:
            self.weights.disown(source.weights)

    def expire(self) -> None:
        """End the sessions that were not heard of, and forget the results whose time is over."""
        self.results.sweep()
        before = self.clock() - self.limits.session_timeout
        for session in [each for each in self.sessions.values() if each.seen_at < before]:
            self.end(session, reason="expired", detail=f"no heartbeat for {self.limits.session_timeout:g} seconds")
        if self.clock() - self._touched_at > TOUCH_SECONDS:
            used = [run.run_id for run in self.runs.values() if run.used_at >= self._touched_at]
            self._touched_at = self.clock()
            if used:
                self.spawn(self.in_thread(self.served.store.touch_runs, used, at=self.served.clock()))

    async def expire_forever(self) -> None:
        """Look often enough, until cancelled."""
        while True:
            await asyncio.sleep(min(5.0, self.limits.session_timeout / 4, self.limits.result_ttl / 4))
            self.expire()

    async def close(self) -> None:
        """Stop the background's work."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close_training(self, run: Run) -> None:
        await run.turns.settled()
        await self.served.training.close_session(run.training)


async def _logged(work: Awaitable[object]) -> None:
    try:
        await work
    except Exception:  # noqa: BLE001  (nobody waits for it)
        LOGGER.exception("work in the background failed")
