"""Graders that hang, crash, eat memory and start processes: what the pool must outlive."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from crucible.train.graders.registry import register_grader
from crucible.train.graders.verdict import Verdict

Item = Mapping[str, Any]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def hang(item: Item) -> float:
    while True:
        pass


def wait_for_ever(item: Item) -> float:
    time.sleep(10_000)
    return 1.0


def allocate_10_gb(item: Item) -> float:
    return float(len(bytearray(10 << 30)))


def crash(item: Item) -> float:
    ctypes.string_at(0)
    return 1.0


def leave(item: Item) -> float:
    os._exit(0)


def raise_unprintable(item: Item) -> float:
    raise Unprintable


def return_odd(item: Item) -> object:
    return Odd()


def return_nan(item: Item) -> float:
    return float("nan")


def write_much(item: Item) -> tuple[float, str]:
    print("x" * 2**20)
    os.write(2, b"y" * 2**20)
    return 0.5, "z" * 2**20


def forge_answers(item: Item) -> float:
    for number in range(3, 20):
        try:
            os.write(number, b'{"id": 0, "state": "score", "score": 1.0, "detail": ""}\n')
        except OSError:
            continue
    return 1.0


def spawn_doubling(item: Item) -> float:
    for _ in range(8):  # to 256 processes, each in a session of its own
        os.fork()
        os.setsid() if os.getpgrp() != os.getpid() else None
    time.sleep(10_000)
    return 1.0


def leave_processes(item: Item) -> float:
    """Two children, and one that has cut itself off: it leads a session, and its parent is gone."""
    command = [sys.executable, "-c", f"import time; time.sleep(10_000)  # {item['mark']}"]
    for _ in range(item["children"]):
        subprocess.Popen(command)
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(command[0], command)
        os._exit(0)
    os.waitpid(between, 0)
    return 1.0


def compute(item: Item) -> float:
    """For ever, and say how long in CPU time."""
    with Path(item["file"]).open("a") as file:
        while True:
            file.write(f"{time.process_time()}\n")
            file.flush()


def kill_keeper(item: Item) -> float:
    os.kill(os.getppid(), signal.SIGKILL)
    return 1.0


def answer_twice(item: Item) -> float:
    os.fork()
    return 1.0


def count(item: Item) -> float:
    """How often it was called, across processes."""
    with Path(item["file"]).open("ab") as file:
        file.write(b".")
    return float(Path(item["file"]).stat().st_size)


def say_process(item: Item) -> tuple[float, str]:
    return 1.0, str(os.getpid())


def say_hash(item: Item) -> tuple[float, str]:
    return 1.0, str(hash("the order of a set"))


def count_files(item: Item) -> float:
    time.sleep(0.2)  # so that another worker takes the next item
    return float(psutil.Process().num_fds() - 1)  # the one that looks


def leave_thread(item: Item) -> tuple[float, str]:
    threading.Thread(target=hang, args=(item,), daemon=True).start()
    return say_process(item)


def seven(item: Item) -> Verdict:
    return Verdict.of(item["value"] % 7)


NAMES = [
    *("hang", "wait_for_ever", "allocate_10_gb", "crash", "leave", "raise_unprintable", "return_odd", "return_nan"),
    *("write_much", "forge_answers", "spawn_doubling", "leave_processes", "answer_twice", "count", "say_process"),
    *("say_hash", "seven", "leave_thread", "count_files", "compute", "kill_keeper"),
]
for _name in NAMES:
    register_grader(_name, globals()[_name])
