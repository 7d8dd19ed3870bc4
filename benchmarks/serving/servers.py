"""How are the servers under test started, each in a process of its own, and what CPU time did they use?"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import REPOSITORY, make_venv

_TICKS = os.sysconf("SC_CLK_TCK")
ENVIRONMENT = {
    **os.environ,
    "TINKER_TELEMETRY": "0",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs. model: the name by which its base model is asked for."""

    name: str
    url: str
    model: str
    process: int

    def cpu_seconds(self) -> float:
        """User and system time of the process and those that it started, so far. Linux."""
        return sum(_cpu_seconds(process) for process in (self.process, *_children(self.process)))


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _children(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text(encoding="utf-8").split():
            found += [int(child), *_children(int(child))]
    return found


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def _running(command: Sequence[str | Path], *, name: str, model: str, patience: float) -> Generator[Server]:
    port = free_port()
    process = subprocess.Popen(
        [*command, "--port", str(port)], cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    try:
        until = time.monotonic() + patience
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{name} did not start") from error
                time.sleep(0.1)
        yield Server(name=name, url=f"http://127.0.0.1:{port}", model=model, process=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stub() -> AbstractContextManager[Server]:
    """The SDK's floor."""
    command = [sys.executable, "-m", "benchmarks.serving.stub", "--model", "stub"]
    return _running(command, name="stub", model="stub", patience=60)


def ours(backend: str, folder: Path, *, model: Path | None = None) -> AbstractContextManager[Server]:
    """This project's server over the fakes, or over the engine with a model."""
    command = [sys.executable, "-m", "benchmarks.serving.our_server", "--backend", backend, "--folder", folder]
    public = "fake/model" if model is None else "tiny/llama"
    more = [] if model is None else ["--model", model]
    return _running([*command, *more], name=f"ours_{backend}", model=public, patience=120)


def skyrl_python(maker: str) -> Path:
    """The Python of SkyRL's venv, with the SDK that it pins. maker: a Python of 3.12 or newer."""
    here = REPOSITORY / "benchmarks"
    requirements = here / "serving" / "requirements-skyrl.txt"
    return make_venv(here / ".venv-skyrl", requirements, first=["torch==2.13.0"], maker=maker)


def skyrl(python: Path, folder: Path, *, model: Path) -> AbstractContextManager[Server]:
    """SkyRL's server, its engine beside it."""
    command = [python, REPOSITORY / "benchmarks" / "serving" / "skyrl_server.py", "--model", model, "--folder", folder]
    return _running(command, name="skyrl", model=str(model), patience=300)
