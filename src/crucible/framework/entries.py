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
    """A stage that finished, by its name."""

    stage: str


Entry: TypeAlias = MetricsRow | Result | Artifact | Checkpoint | Completed


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checkpoint that a stage has asked for.

    name: a plain file name; "" lets the position name it. record: its line, to which the codecs add what they say
    of the saved slots; None for one that no stage asked for. publish_as: also record where the state was saved, as
    a result and an artifact of this name. rolling: needless once there is a later one.
    """

    name: str
    record: Mapping[str, Any] | None
    publish_as: str = ""
    rolling: bool = False
