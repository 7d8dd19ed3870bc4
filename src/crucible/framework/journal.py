"""What grew during a run? Metrics, results, artifacts, checkpoints and completed stages."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from crucible.framework.atomic import append_durably
from crucible.ports import MetricsStore
from crucible.ports.metrics_store import MetricsRow


@dataclass(frozen=True)
class Result:
    """A named outcome; JSON data."""

    name: str
    value: Any


@dataclass(frozen=True)
class Artifact:
    """A named file or folder that the run made, or a backend's path for it."""

    name: str
    path: Path | str


@dataclass(frozen=True)
class Checkpoint:
    """A line of `checkpoints.jsonl`."""

    record: Mapping[str, Any]


Entry: TypeAlias = MetricsRow | Result | Artifact | Checkpoint


class Journal:
    """Keeps what stages recorded, in order; metrics go to a `MetricsStore` too, and checkpoints to a file.

    run_dir: where `checkpoints.jsonl` is appended to, one write per record, on disk before `add` returns;
    None keeps them in memory. The metrics of a checkpoint's step are durable before its line is written.
    """

    def __init__(self, *, run_id: str = "", run_dir: Path | None = None, store: MetricsStore | None = None) -> None:
        self._run_id = run_id
        self._run_dir = run_dir
        self._store = store
        self.metrics: list[MetricsRow] = []
        self.results: dict[str, Any] = {}
        self.artifacts: dict[str, Path | str] = {}
        self.checkpoints: list[Mapping[str, Any]] = []
        self.completed: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        """Take one entry. A result or artifact replaces an earlier one of its name."""
        match entry:
            case MetricsRow(step=step, values=values):
                self.metrics.append(entry)
                if self._store is not None:
                    self._store.record(self._run_id, step, values)
            case Result(name, value):
                self.results[name] = value
            case Artifact(name, path):
                self.artifacts[name] = path
            case Checkpoint(record):
                self.flush()
                if self._run_dir is not None:
                    append_durably(self._run_dir / "checkpoints.jsonl", msgspec.json.encode(record) + b"\n")
                self.checkpoints.append(record)

    def complete(self, stage: str) -> None:
        """Count a stage that finished."""
        self.completed[stage] += 1

    def flush(self) -> None:
        """Return when the recorded metrics are durable."""
        if self._store is not None:
            self._store.flush(self._run_id)
