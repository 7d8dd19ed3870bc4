"""Which checkpoints does a resume need? Those that the journal's last points name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from crucible.framework import read_records
from crucible.runtime.run_lineage import below_checkpoints, texts_in

_POINTS = 2
"""From how many different sets of checkpoints a resume may start: the last, and the one before if that is damaged."""


def needed_by_journal(run_dir: Path) -> set[str] | None:
    """The paths below `checkpoints/` that the latest points of `journal.jsonl` name, those of slots that have not
    changed for long included. Empty where there is no journal; None where it cannot be understood, and then all
    may be needed.

    Raises:
        OSError: if it cannot be read.
    """
    # As a resume reads it: nothing after a damaged line is gone on from, so no later point can be trusted here.
    records, _, damage = read_records(run_dir / "journal.jsonl")
    if damage:
        return None
    points: list[tuple[int, Mapping[str, Any]]] = []
    for record in records:
        match record:
            case {"kind": "point", "number": int(number), "slots": dict()}:
                slots = cast(Mapping[str, Any], record["slots"])
                points.append((number, {**(points[-1][1] if points else {}), **slots}))
            case {"kind": "resume", "from": int(number)}:
                points = [point for point in points if point[0] <= number]
            case {"kind": str()}:
                pass
            case _:
                return None
    sets: list[frozenset[str]] = []
    for _, slots in reversed(points):
        named = frozenset(key for text in texts_in(slots) if (key := below_checkpoints(text)))
        if named and named not in sets:
            sets.append(named)
        if len(sets) == _POINTS:
            break
    return set[str]().union(*sets)
