"""What did a run do when, on a timeline? A file for Perfetto (ui.perfetto.dev) or chrome://tracing."""

import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from crucible.telemetry.event import Event

_COUNTERS = ("loss", "tokens_per_second")
_WORKFLOW_LANE = 0


class ChromeTrace:
    """A handler that writes the Trace Event Format: its JSON array, which may lack the closing bracket.

    Stages and workflows are complete events (`X`) with path, thread and what the event told; loss and tokens/s are
    counters; resumes, retries, failures, checkpoints and evaluations are instants. Stages that run beside each
    other stand in lanes of their own (the format wants the events of one `tid` to nest).

    Each event is one write, so a kill costs no event that was written; whatever was running is missing. A second
    handler on the same file goes on in it, as another process: that is what a resumed run shows. Times are wall
    clock at the start, and monotonic from there on.

    path: made with the first event, so that a run that never began leaves nothing. A file that cannot be opened or
    written to raises OSError then. Format: "Trace Event Format", Chromium project.
    """

    events: ClassVar[tuple[str, ...]] = ("workflow", "stage", "training.step", "training.checkpoint", "eval.result")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._clock = time.time_ns() - time.perf_counter_ns()
        self._running: dict[tuple[str, str], tuple[int, int]] = {}  # run and path: start in ns, lane
        self._lanes: set[int] = set()
        self._file: int | None = None
        self._separator = b""

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._file is None:
                self._open()
            match event.name:
                case "workflow.start" | "stage.start":
                    self._begin(event)
                case "workflow.stop" | "workflow.exception" | "stage.stop" | "stage.exception":
                    self._end(event)
                case "training.step":
                    self._count(event)
                case _:
                    self._write({"name": event.name, "ph": "i", "s": "p", "args": _told(event)})

    def close(self) -> None:
        """Close the array and the file; detach the handler first. Safe to call twice."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                try:
                    os.write(file, b"\n]\n")
                finally:
                    os.close(file)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        kept = _whole_events(self._path.read_bytes())
        os.ftruncate(self._file, kept)
        self._separator = b",\n" if kept else b"[\n"
        self._write({"name": "process_name", "ph": "M", "args": {"name": f"crucible {self._path.parent.name}"}})
        self._name_lane(_WORKFLOW_LANE, "workflow")

    def _begin(self, event: Event) -> None:
        of_stage = event.name.startswith("stage.")
        lane = self._free_lane() if of_stage else _WORKFLOW_LANE
        self._running[_key(event)] = (self._now(), lane)

    def _end(self, event: Event) -> None:
        duration = int(event.measurements.get("duration_ns", 0))
        started, lane = self._running.pop(_key(event), (self._now() - duration, _WORKFLOW_LANE))
        self._write(
            {
                "name": str(event.metadata.get("stage", event.metadata.get("workflow", event.name))),
                "cat": event.name.partition(".")[0],
                "ph": "X",
                "ts": started / 1000,
                "dur": (duration or self._now() - started) / 1000,
                "tid": lane,
                "args": {**_told(event), "event": event.name, "thread": threading.current_thread().name},
            }
        )

    def _count(self, event: Event) -> None:
        for name in _COUNTERS:
            value = event.measurements.get(name)
            if value is not None and math.isfinite(value):
                self._write({"name": name, "ph": "C", "args": {name: value}})

    def _free_lane(self) -> int:
        taken = {lane for _, lane in self._running.values()}
        lane = next(lane for lane in range(1, len(taken) + 2) if lane not in taken)
        if lane not in self._lanes:
            self._name_lane(lane, "stages" if lane == 1 else f"stages beside, {lane}")
        return lane

    def _name_lane(self, lane: int, name: str) -> None:
        self._lanes.add(lane)
        self._write({"name": "thread_name", "ph": "M", "tid": lane, "args": {"name": name}})

    def _now(self) -> int:
        return self._clock + time.perf_counter_ns()

    def _write(self, event: dict[str, Any]) -> None:
        whole = {"ts": self._now() / 1000, "pid": os.getpid(), "tid": _WORKFLOW_LANE, **event}
        data = self._separator + json.dumps(whole, default=repr, allow_nan=False).encode()
        assert self._file is not None
        written = os.write(self._file, data)
        if written != len(data):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError("the disk took only a part of a trace event")
        self._separator = b",\n"


def _key(event: Event) -> tuple[str, str]:
    return str(event.metadata.get("run_id", "")), str(event.metadata.get("path", ""))


def _told(event: Event) -> dict[str, object]:
    return {**_plain(event.metadata), **_plain(event.measurements)}


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Values that JSON has; others as their repr."""
    plain = (str, int, bool, type(None))
    return {
        name: value if isinstance(value, plain) or (isinstance(value, float) and math.isfinite(value)) else repr(value)
        for name, value in values.items()
    }


def _whole_events(data: bytes) -> int:
    """How many bytes of a trace end with a whole event: a kill may have cut the last one, a close added `]`."""
    lines = data.split(b"\n")
    while lines and not _is_event(lines[-1]):
        lines.pop()
    return len(b"\n".join(lines).removesuffix(b","))


def _is_event(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.removesuffix(b",")), dict)
    except ValueError:
        return False
