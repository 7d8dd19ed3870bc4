"""How are vectors searched without a database? `MemoryVectorStore`: one matrix per collection, compared in full."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crucible.ports.vector_store import (
    Collection,
    Match,
    Scalar,
    VectorCapabilities,
    VectorRecord,
    VectorStore,
    Where,
    matches,
    require_direction,
    require_new,
)


@dataclass(frozen=True)
class _Entry:
    """What a row stands for."""

    id: str
    text: str
    metadata: Mapping[str, Scalar]


@dataclass
class _Rows:
    """directions: (N, D) float32, each of length 1; row i is entries[i]'s."""

    directions: NDArray[np.float32]
    entries: list[_Entry] = field(default_factory=list[_Entry])
    ids: set[str] = field(default_factory=set[str])


class MemoryVectorStore(VectorStore):
    """Exact search over vectors in memory, in time and memory N x D. They last as long as the object.

    Adding copies the collection's matrix: add many records in one call. Thread-safe.
    """

    adapter_name: ClassVar[str] = "memory"

    def __init__(self) -> None:
        self._collections: dict[str, _Rows] = {}
        self._lock = threading.Lock()

    def capabilities(self) -> VectorCapabilities:
        return VectorCapabilities()

    def create_collection(self, name: str, *, dimension: int) -> Collection:
        if not name or dimension < 1:
            raise ValueError(f"a collection has a name and a dimension from 1; got {name!r} and {dimension}")
        with self._lock:
            if name in self._collections:
                raise ValueError(f"there is a collection {name!r} already")
            self._collections[name] = _Rows(np.empty((0, dimension), dtype=np.float32))
        return Collection(name=name, dimension=dimension, size=0)

    def get_collection(self, name: str) -> Collection:
        with self._lock:
            size, dimension = self._rows(name).directions.shape
        return Collection(name=name, dimension=dimension, size=size)

    def delete_collection(self, name: str) -> None:
        with self._lock:
            self._collections.pop(name, None)

    def add(self, collection: str, records: Sequence[VectorRecord]) -> None:
        with self._lock:
            rows = self._rows(collection)
            require_new(records, rows.ids)
            dimension = rows.directions.shape[1]
            new = [require_direction(record.vector, dimension).astype(np.float32) for record in records]
            rows.directions = np.vstack([rows.directions, *new])
            rows.entries.extend(_Entry(record.id, record.text, dict(record.metadata)) for record in records)
            rows.ids.update(record.id for record in records)

    def query(
        self, collection: str, vector: NDArray[np.float32], *, limit: int = 10, where: Where | None = None
    ) -> list[Match]:
        if limit < 1:
            raise ValueError(f"limit is at least 1; got {limit}")
        with self._lock:
            rows = self._rows(collection)
            directions, entries = rows.directions, rows.entries  # which only grow
        direction = require_direction(vector, directions.shape[1]).astype(np.float32)
        # Not `@`: BLAS may give equal rows different bits, and what is equally near would lose its order.
        scores = np.clip(np.einsum("nd,d->n", directions, direction), -1, 1)
        order: list[int] = np.argsort(-scores, kind="stable").tolist()
        found = (index for index in order if matches(entries[index].metadata, where))
        return [
            Match(
                id=entries[index].id,
                score=float(scores[index]),
                text=entries[index].text,
                metadata=dict(entries[index].metadata),
            )
            for index in islice(found, limit)
        ]

    def _rows(self, name: str) -> _Rows:
        if name not in self._collections:
            raise LookupError(f"there is no collection {name!r}")
        return self._collections[name]
