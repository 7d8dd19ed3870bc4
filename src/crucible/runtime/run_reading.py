"""What does a run's folder say? The one way in which a run is read for the store, live or afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from crucible.runtime.run_events import LONGEST_NAME, EventTally, whole
from crucible.runtime.run_files import RunFiles, damage, fingerprint, read_files
from crucible.runtime.run_lineage import edges_of
from crucible.runtime.run_lines import GrowingFile, Rewritten, parse_object
from crucible.store.records import MetricLine, RunContents, RunRecord, State

_ENDS: Mapping[str, State] = {"completed": "completed", "failed": "failed", "interrupted": "interrupted"}
_NOT_IN_JSON = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


@dataclass(frozen=True)
class Reading:
    """What was read. whole: it is all that the folder holds; else `contents.metrics` are the new lines alone."""

    contents: RunContents
    whole: bool


class FolderReader:
    """Reads one run's folder again and again, each time only what was added to the files that grow.

    What is damaged is left out, and `RunRecord.warning` says what that was.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self.start_over()

    def start_over(self) -> None:
        """Forget what was read: the next reading is whole."""
        self._metrics = GrowingFile(self._run_dir / "metrics.jsonl")
        self._events = GrowingFile(self._run_dir / "events.jsonl")
        self._tally = EventTally()
        self._tokens: dict[int, int] = {}
        self._step: int | None = None
        self._loss: float | None = None
        self._damaged: dict[str, list[int]] = {}
        self._fresh = True

    def read(self, *, running: bool) -> Reading:
        """The run as it is now. running: whether a live process is at it.

        Raises:
            OSError: if the folder cannot be read.
        """
        try:
            try:
                return self._read(running)
            except Rewritten:
                self.start_over()
                return self._read(running)
        except BaseException:
            self.start_over()  # lines that were read and not handed on would be lost
            raise

    def _read(self, running: bool) -> Reading:
        mark = fingerprint(self._run_dir)  # before anything is read: what is written meanwhile makes it stale
        files = read_files(self._run_dir)
        metrics = self._new_metrics()
        self._hear_events()
        run = self._run(files, running=running, mark=mark)
        edges = edges_of(
            run.name,
            experiment=run.experiment,
            document=files.experiment_json,
            checkpoints=[checkpoint.record for checkpoint in files.checkpoints],
            artifacts={artifact.name: artifact.path for artifact in files.artifacts},
        )
        contents = RunContents(
            run=run,
            experiment=files.experiment,
            stages=self._tally.stages(),
            checkpoints=files.checkpoints,
            metrics=metrics,
            artifacts=files.artifacts,
            edges=edges,
        )
        fresh, self._fresh = self._fresh, False
        return Reading(contents, whole=fresh)

    def _new_metrics(self) -> tuple[MetricLine, ...]:
        lines: list[MetricLine] = []
        for number, text in self._metrics.new_lines():
            line = _metric_line(number, text)
            if line is None:
                self._damaged.setdefault("metrics.jsonl", []).append(number)
                continue
            lines.append(line)
            self._step = max(line.step, self._step or 0)
            if "loss" in line.values:
                self._loss = line.values["loss"]
            if "tokens" in line.values:
                self._tokens[line.step] = whole(line.values["tokens"]) or 0
        return tuple(lines)

    def _hear_events(self) -> None:
        for number, text in self._events.new_lines():
            if not self._tally.add(text):
                self._damaged.setdefault("events.jsonl", []).append(number)

    def _run(self, files: RunFiles, *, running: bool, mark: str) -> RunRecord:
        """Steps, loss and tokens are those of the metrics, which a resumed run does not count twice; a run whose
        metrics go elsewhere has announced them as events."""
        tally, summary = self._tally, files.summary
        state: State = "running" if running else _ENDS.get(str(summary.get("status")), "killed")
        recorded = self._step is not None
        tokens = self._tokens or tally.steps
        warnings = [*files.warnings, *(damage(file, lines) for file, lines in self._damaged.items())]
        return RunRecord(
            name=self._run_dir.name,
            state=state,
            recipe=files.experiment.recipe if files.experiment else str(summary.get("recipe", "")),
            experiment=files.experiment.digest if files.experiment else None,
            config=files.config,
            results=files.results,
            started_at=tally.started_at or _started(summary) or _made(self._run_dir),
            seconds=tally.seconds or _seconds(summary),
            step=self._step if recorded else tally.step,
            total_steps=tally.total_steps,
            loss=self._loss if recorded else tally.loss,
            tokens=min(sum(tokens.values()), 2**62),  # a damaged file may add up to more than a column holds
            error="" if state in ("running", "completed") else str(summary.get("error", tally.error)),
            warning="; ".join(warnings),
            fingerprint=mark,
        )


def _metric_line(number: int, text: bytes) -> MetricLine | None:
    row = parse_object(text) or {}
    step = whole(row.pop("step", None))
    if step is None or not row:
        return None
    values: dict[str, float] = {}
    for name, value in row.items():
        read = _number(value)
        if read is None or not 0 < len(name) <= LONGEST_NAME:
            return None
        values[name] = read
    return MetricLine(line=number, step=step, values=values)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return _NOT_IN_JSON.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _started(summary: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(str(summary.get("started_at"))).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _made(run_dir: Path) -> float | None:
    try:
        return (run_dir / "experiment.json").stat().st_mtime
    except OSError:
        return None


def _seconds(summary: Mapping[str, Any]) -> float:
    seconds = summary.get("seconds")
    return float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e12 else 0.0
