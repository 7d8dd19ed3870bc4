"""How does a test start `crucible serve` as a user does, and end it as a power cut does?"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STARTING = 120.0
"""Seconds: importing torch on a machine that is busy takes some."""


@dataclass(frozen=True, kw_only=True)
class ServedProcess:
    """A server that runs in a process of its own. said: the file of its stderr."""

    url: str
    exports: tuple[str, ...]
    process: "subprocess.Popen[str]"
    said: Path

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def served_process(data: Path, *words: str | Path) -> Iterator[ServedProcess]:
    """`crucible serve --data DATA WORDS...` on a free port, from when it takes requests."""
    data.parent.mkdir(parents=True, exist_ok=True)
    said = data.parent / f"{data.name}.stderr"
    command = [sys.executable, "-m", "crucible", "serve", "--port", "0", "--data", data, "--threads", "1", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with said.open("w") as errors:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    try:
        exports = tuple(_exports(process, said))
        url = re.sub(r".*=", "", exports[0])
        yield ServedProcess(url=url, exports=exports, process=process, said=said)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def _exports(process: "subprocess.Popen[str]", said: Path) -> Iterator[str]:
    """The two lines that it prints when it is ready."""
    assert process.stdout is not None
    until = time.monotonic() + STARTING
    for _ in range(2):
        line = process.stdout.readline()
        assert line and time.monotonic() < until, f"the server did not start: {said.read_text()}"
        yield line.strip()
