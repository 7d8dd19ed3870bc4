"""Which tokens do sequences have in common, and where in one row is each of them computed once?

Sequences that begin alike are the branches of a tree: a common beginning is laid out once, and what continues it lies
behind it. So the places that descend from a place are a range, and a place sees those before it whose range it is in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PrefixTree:
    """Sequences in one row of n tokens, a beginning that neighbours have in common once.

    tokens: (n,). positions: (n,), of each token in the sequences that it is in. until: (n,); the token at place q
    continues the one at place k if k <= q < until[k]. places: for each sequence, where its tokens are (N,).
    """

    tokens: Ints
    positions: Ints
    until: Ints
    places: tuple[Ints, ...]

    @classmethod
    def of(cls, sequences: Sequence[Ints]) -> "PrefixTree":
        """Lay out sequences of token ids, each (N,). In sorted order, all that they have in common is found."""
        most = sum(len(sequence) for sequence in sequences)
        tokens, positions, until = (np.zeros(most, np.int64) for _ in range(3))
        places: list[Ints] = []
        before, path, count = tokens[:0], positions[:0], 0
        for sequence in sequences:
            same = common_prefix(before, sequence)
            end = count + len(sequence) - same
            until[path[same:]] = count
            path = np.concatenate([path[:same], np.arange(count, end)])
            tokens[count:end], positions[count:end] = sequence[same:], np.arange(same, len(sequence))
            places.append(path)
            before, count = sequence, end
        until[path] = count
        return cls(tokens=tokens[:count], positions=positions[:count], until=until[:count], places=tuple(places))

    @classmethod
    def apart(cls, sequences: Sequence[Ints]) -> "PrefixTree":
        """Lay out sequences end to end, whatever they have in common."""
        return cls.joined([cls.of([sequence]) for sequence in sequences])

    @classmethod
    def joined(cls, trees: Sequence["PrefixTree"]) -> "PrefixTree":
        """Trees end to end, which do not see each other."""
        starts = np.cumsum([0, *(len(tree.tokens) for tree in trees)]).tolist()
        moved = list(zip(trees, starts, strict=False))
        return cls(
            tokens=np.concatenate([tree.tokens for tree in trees]),
            positions=np.concatenate([tree.positions for tree in trees]),
            until=np.concatenate([tree.until + start for tree, start in moved]),
            places=tuple(places + start for tree, start in moved for places in tree.places),
        )


def common_prefix(one: Ints, other: Ints) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length
