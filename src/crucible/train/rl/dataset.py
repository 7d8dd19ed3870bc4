"""Which problems make up a batch? The next ones, in an order that is a function of the seed and the epoch."""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from crucible.errors import ConfigError, DataError
from crucible.train.rl.types import EnvGroupBuilder, RLDataset
from crucible.train.seeding import generator

P = TypeVar("P")


class ProblemDataset(RLDataset, Generic[P]):
    """Batches of `groups_per_batch` groups over any sequence of problems.

    Every problem comes once per epoch, each epoch in an order of its own (as given with `shuffle=False`). Batches do
    not stop at the end of an epoch: the last one is filled with the first problems of the next, which goes on there.

    builder: from a problem to its group.

    Raises:
        DataError: if there is no problem.
        ConfigError: if `groups_per_batch` is below 1.
    """

    def __init__(
        self,
        problems: Sequence[P],
        builder: Callable[[P], EnvGroupBuilder],
        *,
        groups_per_batch: int,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        if not len(problems):
            raise DataError.of("the environment has no problem", fix="Check its split, its options and its row limit")
        if groups_per_batch < 1:
            raise ConfigError.of("a batch has a group at least", where="groups_per_batch", given=groups_per_batch)
        self._problems, self._builder = problems, builder
        self._groups, self._seed, self._shuffle = groups_per_batch, seed, shuffle
        self._order = lru_cache(maxsize=4)(self._order_of)  # an asynchronous run looks a few batches back and ahead

    def __len__(self) -> int:
        return -(-len(self._problems) // self._groups)

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        return [self._builder(self._problems[place]) for place in self.places(index)]

    def places(self, index: int) -> list[int]:
        """Which problems batch `index` is made of, by their place in the sequence."""
        assert index >= 0, "batches are counted from 0"
        size = len(self._problems)
        numbers = range(index * self._groups, (index + 1) * self._groups)
        return [int(self._order(number // size)[number % size]) for number in numbers]

    def fingerprint(self) -> str:
        """SHA-256 of the problems' JSON, in their order; "" if they are no data (objects that JSON does not know)."""
        digest = hashlib.sha256()
        encoder = msgspec.json.Encoder(order="deterministic")
        try:
            for problem in self._problems:
                digest.update(encoder.encode(problem) + b"\n")
        except TypeError:
            return ""
        return digest.hexdigest()

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        size = len(self._problems)
        return generator(self._seed, "problems", epoch).permutation(size) if self._shuffle else np.arange(size)
