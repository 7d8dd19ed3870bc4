"""What does the store know about a run? Plain values, the same from every database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["running", "completed", "failed", "interrupted", "killed"]
"""killed: it left no summary, and no process is running it."""

STATES: tuple[State, ...] = ("running", "completed", "failed", "interrupted", "killed")


@dataclass(frozen=True, kw_only=True)
class ExperimentRecord:
    """What was run; runs of one `experiment.json` share it. digest: the SHA-256 of that file's bytes."""

    digest: str
    recipe: str
    workflow: str
    description: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run.

    name: of its folder, which is its id. config: `{key: {"value", "origin"}}`. started_at: seconds since 1970.
    seconds: that it ran, over all the times it was continued. step: the last one recorded; None before the
    first. tokens: input tokens of the steps up to it. results: what its summary holds beside the fixed keys.
    error: what ended it. warning: what of its folder could not be read. fingerprint: of the folder's files.
    """

    name: str
    state: State
    recipe: str = ""
    experiment: str | None = None
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    started_at: float | None = None
    seconds: float = 0.0
    step: int | None = None
    total_steps: int | None = None
    loss: float | None = None
    tokens: int = 0
    error: str = ""
    warning: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What a stage cost over the whole run. position: of its first start among the stages. seconds, longest: of
    the times that it ended, well or not."""

    path: str
    position: int
    started: int
    finished: int
    failed: int
    seconds: float
    longest: float
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """A line of `checkpoints.jsonl`, counted from 0. deleted_at: when retention removed it, as ISO 8601."""

    line: int
    name: str
    step: int | None
    final: bool
    record: Mapping[str, Any]
    deleted_at: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricLine:
    """A line of `metrics.jsonl`, counted from 0."""

    line: int
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """A named file or folder that the run made, or a backend's path for it."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True, order=True)
class Edge:
    """How one thing came from another: (run, B) loads (checkpoint, A/weights/final).

    Kinds: run, experiment, checkpoint, artifact. A checkpoint is named by its run and its path below
    `checkpoints/`, an artifact by its run and its name.
    """

    source_kind: str
    source: str
    relation: str
    target_kind: str
    target: str


@dataclass(frozen=True, kw_only=True)
class RunContents:
    """All that is known of one run, or, for what is added to it, the run as it is now and its new lines."""

    run: RunRecord
    experiment: ExperimentRecord | None = None
    stages: tuple[StageRecord, ...] = ()
    checkpoints: tuple[CheckpointRecord, ...] = ()
    metrics: tuple[MetricLine, ...] = ()
    artifacts: tuple[ArtifactRecord, ...] = ()
    edges: tuple[Edge, ...] = ()
