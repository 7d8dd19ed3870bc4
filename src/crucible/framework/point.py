"""From where can a run be continued? Points, folded from the journal's records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from crucible.framework.entries import Request
from crucible.framework.position import BEGINNING, Position, from_plain


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A slot's saved value: the checkpoint's name that it was saved under, and what the codec made of it.

    rolling: no stage asked for that checkpoint, so a later one makes it needless.
    """

    codec: str
    name: str
    data: Any
    rolling: bool = False


@dataclass(frozen=True, kw_only=True)
class Point:
    """All that is needed to continue: what had grown until then, and the durable slots.

    number: its place among the run's points. name: the checkpoint's; "" for one that the runner took by itself.
    metrics_rows, metrics_sha256: of the rows recorded by then. fingerprints: of rebuilt slots' values, to know them
    again. pending: the checkpoints asked for in the enclosing loops' iterations, which wait for these to end.
    """

    number: int = -1
    position: Position = BEGINNING
    name: str = ""
    slots: Mapping[str, Saved] = field(default_factory=dict[str, Saved])
    results: Mapping[str, Any] = field(default_factory=dict[str, Any])
    artifacts: Mapping[str, str] = field(default_factory=dict[str, str])
    checkpoints: tuple[Mapping[str, Any], ...] = ()
    completed: Mapping[str, int] = field(default_factory=dict[str, int])
    fingerprints: Mapping[str, str] = field(default_factory=dict[str, str])
    pending: tuple[tuple[Request, ...], ...] = ()
    metrics_rows: int = 0
    metrics_sha256: str = ""


START = Point()
"""Before anything ran."""


def points_in(records: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The points that a journal's records come to, oldest first, from `START` on.

    A record of kind `resume` takes back what came after the point that it names.

    Raises:
        ValueError, KeyError, TypeError: if a record has not the form that `Journal` writes.
    """
    points = [START]
    for record in records:
        if record["kind"] == "point":
            points.append(_next(points[-1], record))
        elif record["kind"] == "resume":
            number = record["from"]
            points = [point for point in points if point.number <= number]
    return points


def without(names: Iterable[str], slots: Mapping[str, Saved]) -> dict[str, Saved]:
    """The slots but for these."""
    left_out = frozenset(names)
    return {name: saved for name, saved in slots.items() if name not in left_out}


def _next(last: Point, record: Mapping[str, Any]) -> Point:
    completed = dict(last.completed)
    for stage, count in record["completed"].items():
        completed[stage] = completed.get(stage, 0) + count
    return replace(
        last,
        number=record["number"],
        position=from_plain(record["position"]),
        name=record["name"],
        slots=without(
            record.get("ended", ()),  # a journal of an earlier version has none
            {**last.slots, **{slot: Saved(**saved) for slot, saved in record["slots"].items()}},
        ),
        results={**last.results, **record["results"]},
        artifacts={**last.artifacts, **record["artifacts"]},
        checkpoints=(*last.checkpoints, *record["checkpoints"]),
        completed=completed,
        fingerprints={**last.fingerprints, **record["fingerprints"]},
        pending=msgspec.convert(record["pending"], tuple[tuple[Request, ...], ...]),
        metrics_rows=record["metrics"]["rows"],
        metrics_sha256=record["metrics"]["sha256"],
    )
