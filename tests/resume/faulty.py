"""How is a run continued and compared, and how does something happen to one? `child.py`, also on a disk too small."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crucible
from crucible.framework import Workflow
from crucible.telemetry import Event, default_bus

CHILD = Path(__file__).with_name("child.py")


def bytes_of(run_dir: Path) -> dict[str, bytes]:
    """Everything that a run promises to repeat: metrics, checkpoints' lines, and every saved file."""
    files = [run_dir / "metrics.jsonl", run_dir / "checkpoints.jsonl", *(run_dir / "checkpoints").rglob("*")]
    return {str(file.relative_to(run_dir)): file.read_bytes() for file in files if file.is_file()}


def resumed(run_dir: Path, workflow: Workflow | None = None, **options: Any) -> tuple[str, list[str]]:
    """Continue the run to its end: from where it went on, and what it said of what could not be used."""
    heard: list[Event] = []
    default_bus().attach("test", "workflow.resume", heard.append)
    try:
        if workflow is None:
            crucible.resume(run_dir)
        else:
            crucible.run(workflow, run_dir=run_dir, resume="must", **options)
    finally:
        default_bus().detach("test")
    (event,) = heard
    skipped: Any = event.metadata["skipped"]
    return str(event.metadata["position"]), skipped


def in_a_child(*words: object, check: int) -> str:
    """Run `child.py`; what it said on stderr."""
    command = [sys.executable, str(CHILD), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == check, done.stderr
    return done.stderr


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs that only a child sees, in namespaces of its own; where these are not to be had, a limit on the size
    of every file. words: what the kernel says when it is full."""

    place: Path
    permitted: bool

    @classmethod
    def at(cls, place: Path) -> "SmallDisk":
        """place: an empty folder."""
        probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(place)]
        try:
            return cls(place, subprocess.run(probe, capture_output=True).returncode == 0)
        except FileNotFoundError:  # no Linux
            return cls(place, permitted=False)

    @property
    def words(self) -> str:
        return "No space left on device" if self.permitted else "File too large"

    def run(self, model: Path, rows: Path, *, keep: Path) -> str:
        """Run until the disk is full, make room, continue; the finished run is copied to `keep`. What the first
        said on stderr."""
        child = f"'{sys.executable}' '{CHILD}' '{self.place}/run' '{model}' '{rows}'"
        resume = f"'{sys.executable}' -m crucible resume '{self.place}/run' >/dev/null 2>&1"
        if self.permitted:
            mount = f"mount -t tmpfs -o size={SIZE} none '{self.place}'"
            script = f"{mount} && ! {child} && mount -o remount,size=64m '{self.place}' && {resume}"
            shell = ["unshare", "-rm", "sh", "-c"]
        else:
            script = f"! (ulimit -f {LARGEST}; {child}) && {resume}"
            shell = ["sh", "-c"]
        done = subprocess.run(
            [*shell, f"{script} && cp -r '{self.place}/run' '{keep}'"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stderr


SIZE = "200k"
"""Holds one of the run's checkpoints, and not two."""
LARGEST = 60
"""In blocks of 512 bytes, which is less than an optimizer's state takes."""
