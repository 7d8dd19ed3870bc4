"""Which store does a reference belong to? `RoutedStore` asks its stores in order."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from crucible.errors import DataError, did_you_mean
from crucible.ports.dataset_store import DatasetInfo, DatasetStore, Row, RowSet


@runtime_checkable
class Named(Protocol):
    """A store whose data sets have names that can be misspelt."""

    @property
    def names(self) -> tuple[str, ...]:
        """What it has."""
        ...


class RoutedStore(DatasetStore):
    """The first of `stores` that accepts a reference serves it."""

    adapter_name: ClassVar[str] = "auto"

    def __init__(self, stores: Sequence[DatasetStore]) -> None:
        self._stores = tuple(stores)

    def accepts(self, reference: str) -> bool:
        return any(store.accepts(reference) for store in self._stores)

    def info(self, reference: str) -> DatasetInfo:
        return self._store(reference).info(reference)

    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        return self._store(reference).load(reference, split=split, limit=limit)

    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        return self._store(reference).stream(reference, split=split)

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        return self._store(reference).fingerprint(reference, split=split)

    def close(self) -> None:
        for store in self._stores:
            store.close()

    def _store(self, reference: str) -> DatasetStore:
        for store in self._stores:
            if store.accepts(reference):
                return store
        names = [name for store in self._stores if isinstance(store, Named) for name in store.names]
        raise DataError.of(
            f"there is no such data set, {did_you_mean(reference, names)}",
            given=reference,
            fix="Give one of the names, a local file or folder, or a hub id (org/name)",
        )
