"""Which of a call's rows go through the model together, and is what they begin with computed once?

The members of a group have one prompt: where rows of a call do, every common beginning in a micro-batch is computed
once, and the gradients of all that continue it flow through it. A call without such rows is laid out row by row, as if
this file did not exist: texts that share a system prompt alone keep the bits that they have always had. All of it is a
pure function of the data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crucible.engine.losses import Loss
from crucible.engine.packing import micro_batches
from crucible.engine.prefix_tree import Ints, common_prefix
from crucible.engine.rows import Row
from crucible.ports.training_client import LogprobsWanted

_LEAST_SHARE = 8
"""Prompts are shared where that spares at least one in so many of the call's tokens: below it is not worth a step."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a call's rows go through the model.

    order: indices of the rows to compute; the others have no position that is asked for. sequences: of every row, the
    tokens to compute (None: rows share nothing, and go whole).
    """

    rows: Sequence[Row]
    order: Sequence[int]
    sequences: Sequence[Ints] | None

    def cost(self, place: int, *, first: bool) -> int:
        """Tokens that the row at `place` of the order adds to a micro-batch, of which it is the first or not."""
        index = self.order[place]
        if self.sequences is None:
            return len(self.rows[index].tokens)
        own = self.sequences[index]
        new = len(own) if first else len(own) - common_prefix(self.sequences[self.order[place - 1]], own)
        # A position with a loss has hidden states and a gradient of its own, if its token has not.
        return max(new, int(self.rows[index].active.sum()))

    def taken(self, run: Iterable[int]) -> "Taken":
        """The rows with these indices, for one micro-batch."""
        indices = list(run)
        return Taken(
            rows=[self.rows[index] for index in indices],
            sequences=None if self.sequences is None else [self.sequences[index] for index in indices],
        )

    def runs(self, token_budget: int) -> list[Sequence[int]]:
        """Micro-batches, as indices of rows: each of at most `token_budget` tokens, unless a row alone is longer.

        Raises:
            DataError: if a row is empty.
        """
        if self.sequences is None:
            return list(micro_batches([len(row.tokens) for row in self.rows], token_budget=token_budget))
        runs: list[Sequence[int]] = []
        start = used = 0
        for place in range(len(self.order)):
            cost = self.cost(place, first=place == start)
            if place > start and used + cost > token_budget:
                runs.append(self.order[start:place])
                start, used = place, 0
                cost = self.cost(place, first=True)
            used += cost
        return [*runs, self.order[start:]] if start < len(self.order) else runs


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The rows of a micro-batch. sequences: see `Plan`."""

    rows: Sequence[Row]
    sequences: Sequence[Ints] | None


def plan(rows: Sequence[Row], *, loss: Loss, wanted: LogprobsWanted, can_share: bool) -> Plan:
    """How the rows of a call go through a model. can_share: whether it computes what is laid out so."""
    if not can_share or not _same_prompts(rows):
        return Plan(rows=rows, order=range(len(rows)), sequences=None)
    sequences = [row.tokens[: _reach(row, loss, wanted)] for row in rows]
    texts = [sequence.tolist() for sequence in sequences]
    computed = [index for index, sequence in enumerate(sequences) if len(sequence)]
    return Plan(rows=rows, order=sorted(computed, key=texts.__getitem__), sequences=sequences)


def _same_prompts(rows: Sequence[Row]) -> bool:
    """Whether enough rows have the same tokens before the first target that has a loss."""
    seen: set[bytes] = set()
    spared = total = 0
    for row in rows:
        total += len(row.tokens)
        if not row.active.any():
            continue
        prompt = row.tokens[: int(row.active.argmax()) + 1].tobytes()
        spared += len(prompt) // row.tokens.itemsize if prompt in seen else 0
        seen.add(prompt)
    return 0 < total <= _LEAST_SHARE * spared


def _reach(row: Row, loss: Loss, wanted: LogprobsWanted) -> int:
    """How many tokens of a row have a say in what is asked for."""
    if wanted == "all":
        return len(row.tokens)
    if not row.active.any():
        return 0
    needed = row.active if loss.sequence_ratio is None else row.active | (row.inputs[loss.sequence_ratio] != 0)
    return int(np.flatnonzero(needed)[-1]) + 1
