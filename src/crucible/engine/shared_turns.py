"""When does work run whose steps several sessions share? A step at a time, in turns with the others' work.

A step of the sampler draws a token for every sequence in a slot; one of the mixer reads rows of several calls. Such
work is one tenant of the worker, and its time is divided by the number of sessions that have a request in it: each gets
the share of one session that works alone.
"""

from collections import Counter
from concurrent.futures import CancelledError, Future
from typing import Protocol, TypeVar

from crucible.engine.worker import Steps, Worker

T = TypeVar("T")


class SharedWork(Protocol):
    """What is stepped; only the engine's thread calls it."""

    @property
    def busy(self) -> bool:
        """Whether a request is not done."""
        ...

    def step(self) -> None:
        """One unit of work. A request's failure is its own; what this raises fails them all."""
        ...

    def fail(self, error: Exception) -> None:
        """Fail every request that is not done."""
        ...


class SharedTurns:
    """Keeps `worker` stepping `work` while that is busy. Only the engine's thread calls it.

    tenant: on whose account the time goes.
    """

    def __init__(self, worker: Worker, work: SharedWork, *, tenant: str) -> None:
        self._worker, self._work, self.tenant = worker, work, tenant
        self._requests: Counter[str] = Counter()  # not done, by session
        self._stepping = False

    def take(self, session_id: str, request: "Future[T]") -> "Future[T]":
        """A session's request was handed to the work: see that it is done."""
        self._requests[session_id] += 1
        request.add_done_callback(lambda _: self._done(session_id))
        if not self._stepping:
            self._stepping = True
            self._worker.submit(self._steps, tenant=self.tenant, lanes=(), share=lambda: len(self._requests))
        return request

    def end(self) -> None:
        """Fail what is not done: the engine was closed."""
        self._work.fail(CancelledError("the engine was closed before this request was done"))

    def _steps(self) -> Steps[None]:
        try:
            while self._work.busy:
                self._work.step()
                yield
        except Exception as error:  # noqa: BLE001  (it belongs to no one request: all of them hear of it)
            self._work.fail(error)
        finally:
            self._stepping = False

    def _done(self, session_id: str) -> None:
        self._requests[session_id] -= 1
        if not self._requests[session_id]:
            del self._requests[session_id]
