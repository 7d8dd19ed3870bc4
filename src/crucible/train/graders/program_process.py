"""How does one speak with a program that may write for ever, never read, and never end? Without waiting for it."""

import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

from crucible.train.graders.processes import end_tree

_TICK = 0.05
"""Seconds between looks at whether it has ended, where something it started holds its pipes open."""


class ProgramProcess:
    """A started process: standard input, output and error, and one more pipe, whose number is the last argument.

    written: bytes it has written to `stdout`, `stderr` and `told` (that pipe), so far.
    """

    def __init__(self, command: Sequence[str], *, folder: Path) -> None:
        told, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={
                    "HOME": str(folder),
                    "TMPDIR": str(folder),
                    "LANG": "C.UTF-8",
                    "PYTHONUTF8": "1",
                    "PYTHONHASHSEED": "0",
                },
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except OSError:
            os.close(told)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin is not None and self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._pipes = {"stdout": self._process.stdout, "stderr": self._process.stderr, "told": os.fdopen(told, "rb")}
        self.written = {name: bytearray() for name in self._pipes}

    def converse(self, text: bytes, *, most: int, wall_seconds: float) -> Literal["ended", "output", "wall"]:
        """Give it its input and take what it writes, until it ends or is at a limit.

        most: bytes of each output. wall_seconds: on the clock.
        """
        deadline = time.monotonic() + wall_seconds
        with selectors.DefaultSelector() as selector:
            for name, pipe in self._pipes.items():
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ, name)
            os.set_blocking(self._stdin.fileno(), False)
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while len(selector.get_map()):
                ready = selector.select(_TICK)
                for key, _ in ready:
                    if key.fileobj is self._stdin:
                        text = self._give(text)
                        if not text:
                            selector.unregister(self._stdin)
                            self._hang_up()
                    elif not self._take(key.data, most):
                        selector.unregister(key.fileobj)
                if any(len(got) > most for got in self.written.values()):
                    return "output"
                if time.monotonic() > deadline:
                    return "wall"
                if not ready and self._process.poll() is not None:
                    break
        return "ended" if self._waited(deadline) else "wall"

    def end(self) -> int:
        """Kill what is left of it and of what it has started; its exit code, negative for a signal."""
        end_tree(self._process.pid)
        code = self._process.wait()
        self._hang_up()
        for pipe in self._pipes.values():
            pipe.close()
        return code

    def _give(self, text: bytes) -> bytes:
        try:
            return text[os.write(self._stdin.fileno(), text[: 1 << 16]) :]
        except BlockingIOError:
            return text
        except BrokenPipeError:  # it does not care for its input
            return b""

    def _take(self, name: str, most: int) -> bool:
        """Whether the pipe is still open. What goes beyond the limit is not kept."""
        try:
            data = os.read(self._pipes[name].fileno(), 1 << 16)
        except BlockingIOError:
            return True
        got = self.written[name]
        got += data[: max(0, most + 1 - len(got))]
        return bool(data)

    def _hang_up(self) -> None:
        with suppress(BrokenPipeError):
            self._stdin.close()

    def _waited(self, deadline: float) -> bool:
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True
