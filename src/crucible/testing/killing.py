"""How is a run killed exactly where it hurts? By `kill -9` to itself, aimed at a file or an event."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from crucible.telemetry import Event, default_bus

Target: TypeAlias = Literal["time", "checkpoint", "stage"]


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Where to kill.

    target: `time`, after `seconds`; `checkpoint`, at the `count`-th touch of `checkpoints.jsonl` or of what is below
    `checkpoints` (made, opened, synced or renamed); `stage`, `seconds` after the `count`-th end of the stage `name`,
    which for a stage that submits work is while that work is on its way.
    """

    target: Target
    count: int = 1
    seconds: float = 0.0
    name: str = ""

    def __str__(self) -> str:
        match self.target:
            case "time":
                return f"at {self.seconds:.2f} s"
            case "checkpoint":
                return f"inside a checkpoint write (touch {self.count})"
            case "stage":
                return f"{self.seconds * 1e3:.0f} ms after {self.name} {self.count}"


def arm(aim: Aim) -> None:
    """From now on this process kills itself at the aim. It cannot be taken back."""
    match aim.target:
        case "time":
            threading.Thread(target=_later, args=(aim.seconds,), daemon=True).start()
        case "checkpoint":
            _arm_files(aim.count)
        case "stage":
            _arm_stage(aim)


def _arm_files(count: int) -> None:
    touched = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touched
        if event in _FILE_EVENTS and any(_BELOW in str(part) for part in arguments):
            touched += 1
            if touched == count:
                _kill()

    sys.addaudithook(hook)


_BELOW = f"{os.sep}checkpoints"  # the folder, and checkpoints.jsonl
_FILE_EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "tempfile.mkdtemp"})


def _arm_stage(aim: Aim) -> None:
    ended = 0

    def listen(event: Event) -> None:
        nonlocal ended
        if event.metadata.get("stage") == aim.name:
            ended += 1
            if ended == aim.count:
                threading.Thread(target=_later, args=(aim.seconds,), daemon=True).start()

    default_bus().attach("killing", "stage.stop", listen)


def _later(seconds: float) -> None:
    time.sleep(seconds)
    _kill()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
