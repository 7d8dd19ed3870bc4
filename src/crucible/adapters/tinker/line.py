"""In which order do the calls of one session reach the service? In the order they were made, whoever makes them."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from crucible.adapters.tinker.futures import Sent
from crucible.ports.future import Future

T = TypeVar("T")


class Line:
    """One thread, started by its first call, that makes requests one after the other and waits for none of them.

    A call that must have an answer before the next one is made (a loaded checkpoint) waits in it.
    """

    def __init__(self, name: str, *, closed: Callable[[], Exception]) -> None:
        self._name, self._closed_error = name, closed
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], concurrent.futures.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._lock = threading.Lock()
        self._started = self._closed = False
        self._unfinished: set[concurrent.futures.Future[Any]] = set()

    def submit(self, call: Callable[[], T | Sent[T]]) -> Future[T]:
        """Make `call` after those before it. What it returns, or what the request it sent brings, is the outcome."""
        outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._closed:
                outcome.set_exception(self._closed_error())
                return Future(outcome)
            if not self._started:
                # A daemon, so that a program can end though the service does not answer.
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
                self._started = True
            self._unfinished.add(outcome)
            self._calls.put((call, outcome))
        outcome.add_done_callback(self._finished)
        return Future(outcome)

    def wait_for_earlier(self) -> None:
        """Inside a call: wait until the requests that were sent before it are done."""
        with self._lock:
            earlier = [future for future in self._unfinished if future.running()]
        concurrent.futures.wait(earlier)

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._closed

    def close(self) -> None:
        """End the thread after the call that it is in; calls not yet made fail. Safe to call twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._calls.put(None)

    def _run(self) -> None:
        while (waiting := self._calls.get()) is not None:
            call, outcome = waiting
            if self._closed:
                outcome.set_exception(self._closed_error())
                continue
            try:
                made = call()
            except BaseException as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
                outcome.set_exception(error)
                continue
            if isinstance(made, Sent):
                outcome.set_running_or_notify_cancel()
                cast("Sent[Any]", made).into(outcome)
            else:
                outcome.set_result(made)

    def _finished(self, outcome: "concurrent.futures.Future[Any]") -> None:
        with self._lock:
            self._unfinished.discard(outcome)
