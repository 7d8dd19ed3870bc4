"""What does an inspection look like as a page? One HTML file that needs nothing else and asks for nothing.

The page's own policy forbids every request, and every script but the one that it holds (by its hash). What a run says
is data: JSON whose `<` are escaped, which the script puts on the page as text.
"""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any

import msgspec

from crucible.runtime.token_page.rollouts import rollouts_data
from crucible.runtime.token_rows import Inspection, ViewRow


def page(inspection: Inspection) -> str:
    """The whole page."""
    style, script = (_parts(_STYLES, "css"), _parts(_SCRIPTS, "js"))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "TITLE": escape(inspection.title),
        "KIND": "tokens" if inspection.rollouts is None else "rollouts",
        "STYLE": style,
        "DATA": _data(inspection),
        "SCRIPT": script,
    }
    return re.sub("%([A-Z]+)%", lambda place: parts[place[1]], _part("page.html"))


_STYLES = ("style", "rollouts")
_SCRIPTS = ("rows", "rollouts", "shown", "drawing", "curve", "tree", "turns", "side", "moving")
"""In this order: each uses what those before it define, and runs nothing of those after it until all are there."""


def _part(name: str) -> str:
    return files("crucible.runtime.token_page").joinpath(name).read_text(encoding="utf-8")


def _parts(names: Sequence[str], kind: str) -> str:
    return "".join(_part(f"{name}.{kind}") for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(inspection: Inspection) -> str:
    """The rows as JSON that may stand inside a script element: no `<` is left in it."""
    pieces: dict[tuple[int, str, bool], int] = {}
    document = {
        "title": inspection.title,
        "facts": dict(inspection.facts),
        "notes": list(inspection.notes),
        "rows": [_row(row, pieces) for row in inspection.rows],
        "rollouts": None if inspection.rollouts is None else rollouts_data(inspection.rollouts, inspection.rows),
        "pieces": list(pieces),
    }
    text = msgspec.json.encode(document).decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _row(row: ViewRow, pieces: dict[tuple[int, str, bool], int]) -> dict[str, Any]:
    """pieces: every (id, text, special) that was met, with its place in the page's table."""
    keys = ((token, read.text, read.special) for token, read in zip(row.ids, row.texts, strict=True))
    return {
        "step": row.step,
        "epoch": row.epoch,
        "row": row.row,
        "origin": row.origin,
        "kept": row.kept,
        "version": row.policy_version,
        "problems": list(row.problems),
        "notes": list(row.notes),
        "tokens": [pieces.setdefault(key, len(pieces)) for key in keys],
        "weights": _runs(row.weights),
        "logprobs": _numbers(row.logprobs),
        "advantages": _numbers(row.advantages),
        "sampler": _numbers(row.sampler_logprobs),
        "eval": row.rollout is not None and row.rollout.purpose == "eval",
    }


def _runs(weights: Iterable[float]) -> list[float | str | None]:
    """Equal neighbours as (how many, value): most rows have two values."""
    return [part for value, run in groupby(weights) for part in (sum(1 for _ in run), _number(value))]


def _numbers(values: Sequence[float | None] | None) -> list[float | str | None] | None:
    return None if values is None else [_number(value) for value in values]


def _number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return None if value is None else float(f"{value:.6g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
