"""How is a run asked to stop so that it can be continued?"""

import threading
from collections.abc import Callable


class RunStopped(Exception):
    """The run was asked to stop and did, at a point that it can be continued from."""


class Stop:
    """A wish to stop, made from a signal handler or another thread.

    A run that is inside a loop finishes the iteration that it is on, writes a checkpoint and raises `RunStopped`;
    anywhere else it is cancelled where it is: its last point holds all but that one stage's work. A checkpoint that is
    being written is written to its end first.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal may arrive while this very thread holds it
        self._on_request: Callable[[], None] | None = None
        self.wanted = False

    def request(self) -> None:
        """Ask for it. Safe from any thread, and to call twice."""
        with self._lock:
            self.wanted = True
            call = self._on_request
        if call is not None:
            call()

    def attend(self, on_request: Callable[[], None] | None) -> None:
        """Who is told of a request; told at once if there was one before."""
        with self._lock:
            self._on_request = on_request
            wanted = self.wanted
        if wanted and on_request is not None:
            on_request()
