"""What is a worker to its keeper? A process at the other end of a socket, with at most one request at a time."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from crucible.train.graders.limits import GraderLimits
from crucible.train.graders.processes import end_tree
from crucible.train.graders.worker import LOAD_SECONDS, MEMORY_EXIT, Reply, invalid, out_of_memory, serve

_MOST_ANSWER = 4 << 20
"""Bytes of an answer: far more than any has."""
_STATES = ("score", "invalid", "timed_out")
_NO_ANSWER = "the grader's process sent what is no answer"


class WorkerProcess:
    """A forked process that serves requests. line: the keeper's end; request: what it is at, if anything; done: how
    many it has answered; deadline: of the clock, for its request."""

    def __init__(self, limits: GraderLimits, *, folder: Path) -> None:
        """Fork. folder: to be made, for the worker's temporary files.

        Raises:
            OSError: if the system has no room for another process.
        """
        self._limits, self._folder = limits, folder
        folder.mkdir()
        self.line, theirs = socket.socketpair()
        keeper = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            self.line.close()
            theirs.close()
            raise
        if self.pid == 0:
            _serve(theirs, keeper, limits, folder)
        theirs.close()
        self.line.setblocking(False)
        self.request: Mapping[str, Any] | None = None
        self.done = 0
        self.deadline = 0.0
        self._loaded: set[str] = set()
        self._loading = True
        self._out, self._got = b"", b""

    def ask(self, request: Mapping[str, Any]) -> None:
        """Begin to send a request."""
        assert self.request is None, "one at a time"
        self.request, self._loading = request, request["function"] not in self._loaded
        self.deadline = time.monotonic() + (10 * LOAD_SECONDS if self._loading else self._limits.wall)
        self._out = json.dumps(request).encode() + b"\n"
        self.send()

    def send(self) -> bool:
        """Send on; whether something is left to send."""
        with suppress(BlockingIOError, ConnectionError):  # full, or dead: its end is heard of in another way
            self._out = self._out[self.line.send(self._out) :]
        return bool(self._out)

    def receive(self) -> tuple[bool, Reply | None]:
        """Whether the line is still open, and the answer if it is complete: then there is no request any more."""
        try:
            data = self.line.recv(1 << 16)
        except BlockingIOError:
            return True, None
        except ConnectionError:
            return False, None
        *lines, self._got = (self._got + data).split(b"\n")
        replies = [reply for line in lines if (reply := self._read(line)) is not None]
        if len(self._got) > _MOST_ANSWER:
            replies.append(invalid(_NO_ANSWER) | {"retire": True})
        if replies:
            self.request = None
            self.done += 1
        return bool(data), replies[0] if replies else None

    def has_said_more(self) -> bool:
        """Whether there is something to receive."""
        with suppress(BlockingIOError, ConnectionError):
            return bool(self.line.recv(1, socket.MSG_PEEK))
        return False

    def overdue(self) -> Reply | None:
        """The verdict on a request that has waited too long."""
        if self.request is None or time.monotonic() < self.deadline:
            return None
        if self._loading:
            return invalid("the grader's module is still not imported", repeatable=False)
        detail = f"not done after {self._limits.wall:g} s on the clock"
        return {"state": "timed_out", "detail": detail, "repeatable": False}

    def died(self, status: int) -> Reply:
        """The verdict on a request whose worker is gone. status: as `waitpid` gives it."""
        code = os.waitstatus_to_exitcode(status)
        if code in (-signal.SIGPROF, -signal.SIGXCPU):
            if self._loading:
                return invalid(f"the import of the grader's module took more than {LOAD_SECONDS:g} s of CPU time")
            return {"state": "timed_out", "detail": f"used more than {self._limits.cpu_seconds:g} s of CPU time"}
        if code == MEMORY_EXIT:
            return invalid(out_of_memory(self._limits), repeatable=False)
        if code == -signal.SIGKILL:  # by nobody here: most often by a system that is out of memory
            return invalid("the grader's process was killed by SIGKILL", repeatable=False)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return invalid(f"the grader's process {how}")

    def end(self) -> None:
        """Kill it with all it has started, wait for its end, and clear up after it."""
        end_tree(self.pid)
        with suppress(ChildProcessError):  # it has been reaped
            os.waitpid(self.pid, 0)
        self.line.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, line: bytes) -> Reply | None:
        """The answer, if it is one to what was asked; that it is none, if it is not; None for a note on the way."""
        try:
            reply = json.loads(line)
            assert self.request is not None and reply["id"] == self.request["id"]
            if reply.get("started"):
                self._loaded.add(self.request["function"])
                self._loading, self.deadline = False, time.monotonic() + self._limits.wall
                return None
            assert reply["state"] in _STATES and isinstance(reply["detail"], str)
            return reply
        except Exception:  # noqa: BLE001  (a grader that found the socket may have written anything)
            return invalid(_NO_ANSWER) | {"retire": True}


def _serve(theirs: socket.socket, keeper: int, limits: GraderLimits, folder: Path) -> NoReturn:
    """The child's side: nothing of the keeper's may stay open in it, least of all another worker's line."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        number = theirs.fileno()
        os.closerange(3, number)
        os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 2)
        os.close(nothing)
        serve(theirs, keeper, limits, folder=str(folder))
        code = 0
    finally:
        os._exit(code)  # never back into the keeper's loop
