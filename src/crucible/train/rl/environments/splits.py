"""Which problems are held out? Those whose text hashes into one tenth, so that no problem is in both splits."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from crucible.train.rl.environments.environment import Split

P = TypeVar("P")

HELD_OUT = 10
"""One problem in so many is held out."""


def of_split(problems: Iterable[P], split: Split, *, text: Callable[[P], str], limit: int | None = None) -> list[P]:
    """The problems of that split in an order that no seed changes, or the first `limit` of them.

    text: what a problem is known by. The order is that of the texts' hashes: a limit takes no corner of a table of
    generated problems.
    """
    kept = {mark: problem for problem in problems if in_split(mark := mark_of(text(problem)), split)}
    return [kept[mark] for mark in sorted(kept)][:limit]


def rows_of_split(rows: Sequence[P], split: Split, *, text: Callable[[P], str], limit: int | None = None) -> list[P]:
    """As `of_split`, in the rows' own order, repeated rows included."""
    return [row for row in rows if in_split(mark_of(text(row)), split)][:limit]


def in_split(mark: bytes, split: Split) -> bool:
    """Whether a problem of that SHA-256 is in the split."""
    return (int.from_bytes(mark[:8], "big") % HELD_OUT == 0) == (split == "eval")


def mark_of(text: str) -> bytes:
    """The SHA-256 of a problem's text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
