"""Who is writing to a run's folder now? One process at a time, held by a lock that dies with it."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from crucible.errors import ConfigError

FILE_NAME = "run.lock"


@contextmanager
def locked(run_dir: Path) -> Generator[None]:
    """Hold the folder for the time of the block.

    Raises:
        ConfigError: if another process, or another run of this one, holds it.
    """
    file = os.open(run_dir / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            _take(file)
        except OSError as error:
            holder = os.read(file, 32).decode(errors="replace").strip()
            raise ConfigError.of(
                "this run is going on in another process",
                where=str(run_dir),
                given=f"process {holder}" if holder else "",
                fix="Wait for it, or stop it",
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _take(file: int) -> None:
    """Take the lock; somebody who only looks holds it for an instant, so a few more looks are worth it."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_running(run_dir: Path) -> bool:
    """Whether a live process holds the folder."""
    try:
        file = os.open(run_dir / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(file)
