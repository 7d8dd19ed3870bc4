"""What does a finished run hand back?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from crucible.ports.metrics_store import MetricsRow


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The outcome of a run that completed (one that fails or is interrupted raises instead).

    state: the last value of every slot, by name. metrics: rows in the order recorded. results, artifacts: by
    name. checkpoints: the records, in order. completed_stages: each name once, in the order they first
    finished; stage_counts: how often each did. A stage of a nested workflow is named `workflow > stage`.
    duration: seconds.
    """

    recipe: str
    workflow: str
    config: Mapping[str, object]
    run_id: str
    run_dir: Path | None
    state: Mapping[str, object]
    metrics: Sequence[MetricsRow]
    artifacts: Mapping[str, Path | str]
    results: Mapping[str, Any]
    checkpoints: Sequence[Mapping[str, Any]]
    completed_stages: list[str]
    stage_counts: Mapping[str, int]
    started_at: datetime
    duration: float
    status: Literal["completed"] = "completed"
