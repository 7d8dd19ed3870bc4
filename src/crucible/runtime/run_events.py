"""What do a run's events say about it: since when, how long, which stages, which step?"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from crucible.store.records import StageRecord

LONGEST_NAME = 300
"""Characters of a name that a database can use as a key. Longer ones come from no writer of ours."""


class _Line(msgspec.Struct):
    name: str
    time_ns: int
    measurements: msgspec.Raw = msgspec.Raw(b"{}")
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


class _Measured(msgspec.Struct):
    duration_ns: float | None = None
    step: float | None = None
    total_steps: float | None = None
    loss: float | None = None
    tokens: float | None = None


class _Told(msgspec.Struct):
    path: str = ""
    error: str = ""
    message: str = ""


_LINES = msgspec.json.Decoder(_Line)
_MEASURED = msgspec.json.Decoder(_Measured)
_TOLD = msgspec.json.Decoder(_Told)
_FURTHEST = 2**62


@dataclass
class _Stage:
    position: int
    started: int = 0
    finished: int = 0
    failed: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    error: str = ""


@dataclass
class EventTally:
    """What the events so far add up to.

    started_at: seconds since 1970, of the first start. steps: input tokens by step, as announced.
    """

    started_at: float | None = None
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    steps: dict[int, int] = field(default_factory=dict[int, int])
    error: str = ""
    _stages: dict[str, _Stage] = field(default_factory=dict[str, _Stage])
    _before: float = 0.0
    _session: tuple[int, int] | None = None

    def add(self, line: bytes) -> bool:
        """Count one line; False if it is damaged, and then nothing is counted."""
        try:
            event = _LINES.decode(line)
            if not 0 <= event.time_ns < _FURTHEST:
                return False
            self._take(event)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            return False
        return True

    @property
    def seconds(self) -> float:
        """From each start or resumption to the latest event before the next; a clock that went back adds nothing."""
        began, last = self._session or (0, 0)
        return self._before + max(0, last - began) / 1e9

    def stages(self) -> tuple[StageRecord, ...]:
        """What each stage cost, in the order of their first starts."""
        return tuple(
            StageRecord(
                path=path,
                position=stage.position,
                started=stage.started,
                finished=stage.finished,
                failed=stage.failed,
                seconds=stage.seconds,
                longest=stage.longest,
                error=stage.error,
            )
            for path, stage in self._stages.items()
        )

    def _take(self, event: _Line) -> None:
        match event.name:
            case "workflow.start" | "workflow.resume":
                self._before = self.seconds
                self._session = (event.time_ns, event.time_ns)
                self.error = ""
                if self.started_at is None:
                    self.started_at = event.time_ns / 1e9
            case "workflow.exception":
                self.error = _why(_TOLD.decode(event.metadata))
            case "stage.start" | "stage.stop" | "stage.exception":
                self._take_stage(event, _TOLD.decode(event.metadata), _MEASURED.decode(event.measurements))
            case "training.step":
                self._take_step(_MEASURED.decode(event.measurements))
            case _:
                pass
        if self._session is not None:
            self._session = (self._session[0], max(self._session[1], event.time_ns))

    def _take_stage(self, event: _Line, told: _Told, measured: _Measured) -> None:
        if not 0 < len(told.path) <= LONGEST_NAME:
            raise ValueError("a stage without a usable path")
        stage = self._stages.setdefault(told.path, _Stage(position=len(self._stages)))
        if event.name == "stage.start":
            stage.started += 1
            return
        spent = (measured.duration_ns or 0.0) / 1e9
        stage.seconds += spent
        stage.longest = max(stage.longest, spent)
        if event.name == "stage.stop":
            stage.finished += 1
        else:
            stage.failed += 1
            stage.error = _why(told)

    def _take_step(self, measured: _Measured) -> None:
        step, total = whole(measured.step), whole(measured.total_steps)
        if step is None:
            raise ValueError("a step without its number")
        self.step, self.total_steps, self.loss = step, total, measured.loss
        self.steps[step] = whole(measured.tokens) or 0


def whole(value: Any) -> int | None:
    """A count that a database can keep, from 0; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FURTHEST:
        return None
    return int(value) if value == int(value) else None


def _why(told: _Told) -> str:
    return f"{told.error}: {told.message}" if told.message else told.error
