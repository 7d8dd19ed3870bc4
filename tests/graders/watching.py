"""Which processes and files are there? Looked up in the system, as one would by hand."""

import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil


def processes_with(mark: str) -> list[int]:
    """Living processes whose command line has this text."""
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if mark in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def children_of(pid: int) -> list[int]:
    """All its descendants that live or are not reaped."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def graders_of_ours() -> list[int]:
    """This process's keepers and all their descendants: other tests may have left it other children."""
    keepers = [child for child in psutil.Process().children() if "crucible-graders-" in _line_of(child)]
    return [each.pid for keeper in keepers for each in (keeper, *keeper.children(recursive=True))]


def _line_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def lives(process: psutil.Process) -> bool:
    """Whether it is there, and not merely waiting to be reaped by whoever took it over."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def open_files() -> int:
    """Of this process."""
    return psutil.Process(os.getpid()).num_fds()


def comes_true(is_true: Callable[[], bool], *, within: float = 30.0) -> bool:
    """Whether it does, in so many seconds."""
    deadline = time.monotonic() + within
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def folders_named_by_children() -> set[str]:
    """The names of the graders' folders in the command lines of this process's children: one for each pool."""
    lines = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    return {found for line in lines for found in re.findall(r"crucible-graders-\w+", line)}


def folders_of_graders() -> set[Path]:
    """Temporary ones."""
    return set(Path(tempfile.gettempdir()).glob("crucible-graders-*"))
