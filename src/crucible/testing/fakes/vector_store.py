"""Where do vectors go in a test? Into lists: `FakeVectorStore`."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crucible.ports.vector_store import (
    Collection,
    Match,
    VectorCapabilities,
    VectorRecord,
    VectorStore,
    Where,
    matches,
    require_direction,
    require_new,
)


class FakeVectorStore(VectorStore):
    """Vectors in memory, compared one by one."""

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self) -> None:
        self._dimensions: dict[str, int] = {}
        self._records: dict[str, dict[str, VectorRecord]] = {}

    def capabilities(self) -> VectorCapabilities:
        return VectorCapabilities()

    def create_collection(self, name: str, *, dimension: int) -> Collection:
        if not name or name in self._dimensions or dimension < 1:
            raise ValueError(f"a collection has a new name and a dimension from 1; got {name!r}, {dimension}")
        self._dimensions[name], self._records[name] = dimension, {}
        return self.get_collection(name)

    def get_collection(self, name: str) -> Collection:
        if name not in self._dimensions:
            raise LookupError(f"there is no collection {name!r}")
        return Collection(name=name, dimension=self._dimensions[name], size=len(self._records[name]))

    def delete_collection(self, name: str) -> None:
        self._dimensions.pop(name, None)
        self._records.pop(name, None)

    def add(self, collection: str, records: Sequence[VectorRecord]) -> None:
        dimension = self.get_collection(collection).dimension
        require_new(records, self._records[collection])
        kept = [
            VectorRecord(
                id=record.id,
                vector=require_direction(record.vector, dimension).astype(np.float32),
                text=record.text,
                metadata=dict(record.metadata),
            )
            for record in records
        ]
        self._records[collection].update((record.id, record) for record in kept)

    def query(
        self, collection: str, vector: NDArray[np.float32], *, limit: int = 10, where: Where | None = None
    ) -> list[Match]:
        direction = require_direction(vector, self.get_collection(collection).dimension)
        if limit < 1:
            raise ValueError(f"limit is at least 1; got {limit}")
        found = [
            Match(
                id=record.id,
                score=float(np.clip((record.vector * direction).sum(), -1, 1)),
                text=record.text,
                metadata=dict(record.metadata),
            )
            for record in self._records[collection].values()
            if matches(record.metadata, where)
        ]
        return sorted(found, key=lambda match: -match.score)[:limit]
