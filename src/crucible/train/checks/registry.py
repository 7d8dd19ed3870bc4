"""Which checks are there, in the order in which they are shown?"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

from crucible.train.checks.beginnings import bos
from crucible.train.checks.finding import Finding
from crucible.train.checks.masks import end_of_turn, trained
from crucible.train.checks.rate import learning_rate
from crucible.train.checks.refused import dropped
from crucible.train.checks.repetition import duplicates, near_empty, overlap
from crucible.train.checks.round_trip import round_trip
from crucible.train.checks.seen import Examined
from crucible.train.checks.template_parity import template
from crucible.train.checks.truncation import truncation
from crucible.train.checks.vocabulary import vocabulary

Check: TypeAlias = Callable[[Examined], Finding]

CHECKS: Mapping[str, Check] = {
    "dropped": dropped,
    "trained": trained,
    "end_of_turn": end_of_turn,
    "bos": bos,
    "template": template,
    "round_trip": round_trip,
    "truncation": truncation,
    "vocabulary": vocabulary,
    "learning_rate": learning_rate,
    "duplicates": duplicates,
    "near_empty": near_empty,
    "overlap": overlap,
}
"""Every check of data, tokenizer and settings, by the name that `waive` and `--only` take."""


def examine(examined: Examined, *, only: Collection[str] = ()) -> list[Finding]:
    """The findings of all checks, or of those named, in the order of `CHECKS`."""
    return [check(examined) for name, check in CHECKS.items() if not only or name in only]
