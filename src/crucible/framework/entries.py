"""What can a stage record?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

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


@dataclass(frozen=True)
class Completed:
    """A stage that finished, by its name. times: 0 only says that it is the first time, to be counted later."""

    stage: str
    times: int = 1


@dataclass(frozen=True)
class Skipped:
    """A stage that failed and was passed over. path: where it stands. why: its error, in words."""

    path: str
    why: str


@dataclass(frozen=True)
class Failures:
    """Branches that failed while the others went on. result: that tells of them. why: by which branch, and in which
    iteration."""

    result: str
    why: Mapping[str, str]


Entry: TypeAlias = MetricsRow | Result | Artifact | Checkpoint | Completed | Skipped | Failures


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which of the checkpoints that one stage asks for stay once there are newer ones; what either number keeps stays.

    stage: who asks. newest: how many of the newest. best: how many of those with the lowest (highest) value of
    `metric`, recorded at the checkpoint's own `step`; while fewer have one, those without it stay too. Both 0: all.
    ttl_seconds: one older than this goes unless it is one of the best; 0: at no age.
    """

    stage: str = ""
    newest: int = 0
    best: int = 0
    metric: str = "eval/nll"
    highest: bool = False
    ttl_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checkpoint that a stage has asked for.

    name: a plain file name; "" lets the position name it. record: its line, to which the codecs add what they say
    of the saved slots; None for one without a line. publish_as: also record where the state was saved, as
    a result and an artifact of this name. rolling: needless once there is a later one.
    """

    name: str
    record: Mapping[str, Any] | None
    publish_as: str = ""
    rolling: bool = False
