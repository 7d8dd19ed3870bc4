"""Which sequences go through the model together? A pure function of their lengths."""

from collections.abc import Sequence
from dataclasses import dataclass

from crucible.errors import DataError, Problem


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Sequences laid end to end in one row, without padding.

    lengths: number of tokens of each, at least 1.
    """

    lengths: tuple[int, ...]

    @property
    def total(self) -> int:
        """Tokens in the row."""
        return sum(self.lengths)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(start, end) of each sequence in the row."""
        spans: list[tuple[int, int]] = []
        start = 0
        for length in self.lengths:
            spans.append((start, start + length))
            start += length
        return tuple(spans)


def micro_batches(lengths: Sequence[int], *, token_budget: int) -> list[range]:
    """Cut sequences, in their order, into runs of at most `token_budget` tokens (next-fit).

    A sequence longer than the budget makes a run of its own. Returns ranges of indices.

    Raises:
        DataError: if a sequence is empty.
    """
    empty = [index for index, length in enumerate(lengths) if length < 1]
    if empty:
        raise DataError([Problem(what="the sequence has no tokens", where=f"datum {index}") for index in empty])
    runs: list[range] = []
    start = used = 0
    for index, length in enumerate(lengths):
        if index > start and used + length > token_budget:
            runs.append(range(start, index))
            start, used = index, 0
        used += length
    if start < len(lengths):
        runs.append(range(start, len(lengths)))
    return runs
