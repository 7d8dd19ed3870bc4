"""In which order do a fake backend's calls run? One at a time, on a thread of their own, as submitted."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from crucible.errors import PortError
from crucible.ports.future import Future

T = TypeVar("T")


class CallQueue:
    """A worker thread that takes `latency` seconds over every call, as a busy device would."""

    def __init__(self, *, port: str, latency: float) -> None:
        self._port = port
        self._latency = latency
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"fake-{port}")

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Run `call` after all that was submitted before.

        Raises:
            PortError: if the queue is closed.
        """
        try:
            return Future(self._executor.submit(self._run, call))
        except RuntimeError as error:  # how an executor says that it was shut down
            raise PortError("the client is closed", port=self._port, adapter="noop") from error

    def close(self) -> None:
        """Finish what was submitted, then end the thread. Safe to call twice."""
        self._executor.shutdown(wait=True)

    def _run(self, call: Callable[[], T]) -> T:
        if self._latency:
            time.sleep(self._latency)
        return call()
