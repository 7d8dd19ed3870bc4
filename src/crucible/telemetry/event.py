"""What happened, and which happenings have names that everybody shares?"""

from collections.abc import Mapping
from dataclasses import dataclass

EVENTS: tuple[str, ...] = (
    "workflow.start",
    "workflow.stop",
    "workflow.exception",
    "workflow.resume",
    "stage.start",
    "stage.stop",
    "stage.exception",
    "stage.retry",
    "stage.uncached",
    "data.examined",
    "training.step",
    "training.epoch",
    "training.checkpoint",
    "eval.start",
    "eval.stop",
    "eval.result",
)
"""The events that the kitchen itself emits. A plug-in may emit others under a first word of its own."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    name: dotted, for example `training.step`.
    measurements: numbers, by name (durations end in `_ns` or are called `seconds`).
    metadata: what the numbers belong to, for example `run_id`, `stage`, `path`.
    time_ns: nanoseconds since 1970, wall clock.
    """

    name: str
    measurements: Mapping[str, float]
    metadata: Mapping[str, object]
    time_ns: int
