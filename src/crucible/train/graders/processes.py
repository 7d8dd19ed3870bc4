"""Which processes came of this one, and how are they all ended? For a process that keeps others."""

import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PATIENCE, _BREATH = 1.0, 0.001
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Become the parent of whatever descendant loses its own, however it has cut itself off. Linux; elsewhere such a
    process belongs to the system, and `end_tree` must meet it before its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """Be killed when the parent's calling thread ends, however it ends. Linux; elsewhere the end of a pipe tells.

    parent: its process id; if it is gone by now, this ends here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def children(pid: int) -> list[int]:
    """The process ids of its children, those that have ended and are not reaped included; none if it is gone."""
    if sys.platform == "darwin":
        return _children_on_macos(pid)
    if not _has_lists():
        return [each for each, parent in _parents() if parent == pid]
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread that ended meanwhile
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int, *, most: int | None = None) -> list[int]:
    """Its children, theirs and so on, nearest first. most: give up beyond so many."""
    found: list[int] = []
    left = [pid]
    while left and (most is None or len(found) <= most):
        mine = children(left.pop(0))
        found += mine
        left += mine
    return found


def end_tree(pid: int) -> None:
    """Kill a process, its group and all its descendants with theirs. It does not wait for their end.

    They are stopped first, until no more come up: what is stopped starts nothing while the others are looked for.
    """
    found = {pid: None}
    _send(pid, signal.SIGSTOP)
    while fresh := [each for each in descendants(pid) if each not in found]:
        for each in fresh:
            _send(each, signal.SIGSTOP)
        found.update(dict.fromkeys(fresh))
    for each in found:
        with suppress(ProcessLookupError, PermissionError):  # it is gone, or leads no group
            os.killpg(each, signal.SIGKILL)
        _send(each, signal.SIGKILL)


def end_orphans(*, known: Iterable[int]) -> None:
    """Kill and reap every child of this process but the known ones, until no more come up, or for a second."""
    mine, deadline = set(known), time.monotonic() + _PATIENCE
    while strays := [pid for pid in children(os.getpid()) if pid not in mine]:
        for pid in strays:
            end_tree(pid)
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:  # one may not be ours to kill (sudo), or wait for a disk
            return
        time.sleep(_BREATH)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it is gone, or another user's
        os.kill(pid, number)


@functools.cache
def _has_lists() -> bool:
    """Whether the kernel was built to list a task's children."""
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _parents() -> Iterable[tuple[int, int]]:
    """Every process and its parent, from `/proc`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # `pid (name) state parent ...`, where the name may hold anything.
                yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def _children_on_macos(pid: int) -> list[int]:
    library = ctypes.CDLL("/usr/lib/libproc.dylib")
    room = (ctypes.c_int * 4096)()
    library.proc_listchildpids(pid, room, ctypes.sizeof(room))
    return [each for each in room if each]
