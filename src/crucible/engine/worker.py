"""In which thread, and in which order, does the engine's work run?"""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from crucible.ports.future import Future

T = TypeVar("T")


class CallersError(Exception):
    """Wraps what a caller's own function raised inside a job: its reader gets the original, untranslated."""

    def __init__(self, original: Exception) -> None:
        super().__init__(str(original))
        self.original = original


@dataclass(frozen=True)
class _Job(Generic[T]):
    call: "Callable[[], T | concurrent.futures.Future[T]]"
    source: "concurrent.futures.Future[T]"


def _pass_on(inner: "concurrent.futures.Future[Any]", outer: "concurrent.futures.Future[Any]") -> None:
    """When `inner` is done, `outer` is, in the same way."""

    def done(finished: "concurrent.futures.Future[Any]") -> None:
        error = finished.exception()
        if error is None:
            outer.set_result(finished.result())
        else:
            outer.set_exception(error)

    inner.add_done_callback(done)


class Worker:
    """One thread, started by its first job. Jobs run in the order they were submitted; one that fails fails its
    own future only. A job that returns a `concurrent.futures.Future` is done when that is, while the next one runs.

    guard: a context manager that every job runs in; it may translate exceptions.
    """

    def __init__(self, name: str, *, guard: Callable[[], AbstractContextManager[None]]) -> None:
        self._guard = guard
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        # A daemon, so that a program that forgets to close it can still end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def closing(self) -> bool:
        """Whether `close` was called: a long job may look and end early."""
        return self._closed

    def submit(self, call: "Callable[[], T | concurrent.futures.Future[T]]") -> Future[T]:
        """Run `call` after everything submitted before. After `close` the future fails with a CancelledError."""
        job = _Job[T](call, concurrent.futures.Future[T]())
        with self._lock:
            if not self._closed:
                if self._thread.ident is None:
                    self._thread.start()
                self._jobs.put(job)
                return Future(job.source)
        self._fail(job)
        return Future(job.source)

    def close(self) -> None:
        """End the thread after the job it is on; jobs still waiting fail with a CancelledError. Safe to call twice."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)
            started = self._thread.ident is not None
        if started and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._closed:
                self._fail(job)
            else:
                self._do(job)

    def _do(self, job: _Job[Any]) -> None:
        try:
            with self._guard():
                value = job.call()
        except CallersError as error:
            job.source.set_exception(error.original)
        except Exception as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
            job.source.set_exception(error)
        else:
            if isinstance(value, concurrent.futures.Future):
                _pass_on(cast("concurrent.futures.Future[Any]", value), job.source)
            else:
                job.source.set_result(value)

    def _fail(self, job: _Job[Any]) -> None:
        def refuse() -> None:
            raise CancelledError("the engine was closed before it came to this request")

        self._do(_Job(refuse, job.source))
