"""How does this process speak with the keeper of the graders? Over a socket, in two threads that own it."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from crucible.train.graders.worker import is_worker

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from crucible.train.graders.keeper import main
main()
"""
_GRACE = 10.0
"""Seconds in which the keeper ends its workers, before it is ended itself."""


class KeeperLink:
    """The keeper's process and the way to it. `send` never waits.

    on_message: called with each message; on_end: called once, with what the process ended of, if it was not closed.
    Both are called in a thread of the link's.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        on_message: Callable[[Mapping[str, Any]], None],
        on_end: Callable[["KeeperLink", str], None],
    ) -> None:
        if is_worker():  # most often a script, imported for its grader, that does its work once more
            raise RuntimeError(
                "a grader's process starts no graders: put `if __name__ == '__main__':` before what the script does"
            )
        self._on_message, self._on_end = on_message, on_end
        self._socket, theirs = socket.socketpair()
        self._folder = tempfile.mkdtemp(prefix="crucible-graders-")
        path = json.dumps([each for each in sys.path if isinstance(each, str)])  # pyright: ignore[reportUnnecessaryIsInstance]  (anybody may put anything there)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps({**settings, "folder": self._folder}), path],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},  # sympy goes through sets of names
                start_new_session=True,  # the terminal's Ctrl-C is this process's to handle
            )
        self.ready = False
        self._closed = False
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name="graders", daemon=True) for work in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def send(self, line: str) -> None:
        """Have a line of JSON sent."""
        self._lines.put(line.encode() + b"\n")

    def close(self) -> None:
        """Hang up, and return when the keeper and all it kept are gone."""
        self._closed = True
        self._lines.put(None)
        with suppress(OSError):  # it is gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._socket.close()

    def _wait(self) -> int:
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)  # which the keeper did, unless it was killed
        return code

    def _write(self) -> None:
        with suppress(OSError):  # hung up; the reader says so
            while (line := self._lines.get()) is not None:
                self._socket.sendall(line)

    def _read(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as messages:
            for line in messages:
                message = json.loads(line)
                if message.get("ready"):
                    self.ready = True
                else:
                    self._on_message(message)
        if self._closed:
            return
        code = self._wait()
        self._lines.put(None)
        self._on_end(self, f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}")
