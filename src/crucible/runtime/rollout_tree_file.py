"""How is the tree of a run's rollouts written as a file of its own? As JSON, to be read by programs."""

from typing import Any

import msgspec

from crucible.runtime.token_rows import Inspection, RolloutsView, StepPoint
from crucible.train.rl.record_values import figure_of, figures_of
from crucible.train.rl.tree import VERSION


def tree_file(found: Inspection, rollouts: RolloutsView) -> bytes:
    """version, title, facts, notes; curve: of every recorded step; steps: the trees of those that are shown."""
    document = {
        "version": VERSION,
        "title": found.title,
        "facts": dict(found.facts),
        "notes": list(found.notes),
        "curve": [_point(point) for point in rollouts.curve],
        "steps": list(rollouts.steps),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _point(point: StepPoint) -> dict[str, Any]:
    return {
        "purpose": point.purpose,
        "step": point.step,
        "metrics": figures_of(point.metrics),
        "lowest": None if point.lowest is None else figure_of(point.lowest),
        "highest": None if point.highest is None else figure_of(point.highest),
        "ended": dict(point.ended),
        "tokens": point.tokens,
        "shown": point.shown,
    }
