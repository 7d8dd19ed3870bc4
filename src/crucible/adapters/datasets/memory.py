"""How do rows that a program already holds become a data set? `MemoryStore`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from crucible.errors import DataError, did_you_mean
from crucible.ports.dataset_store import DatasetInfo, DatasetStore, Row, RowSet


class MemoryStore(DatasetStore):
    """Data sets by name, given as `{name: {split: rows}}`; the rows are copied."""

    adapter_name: ClassVar[str] = "memory"

    def __init__(self, datasets: Mapping[str, Mapping[str, Sequence[Row]]]) -> None:
        self._datasets = {
            name: {split: [dict(row) for row in rows] for split, rows in splits.items()}
            for name, splits in datasets.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """What it has."""
        return tuple(self._datasets)

    def accepts(self, reference: str) -> bool:
        return reference in self._datasets

    def info(self, reference: str) -> DatasetInfo:
        splits = self._splits(reference)
        columns = dict.fromkeys(column for rows in splits.values() for row in rows for column in row)
        return DatasetInfo(
            name=reference,
            splits={split: len(rows) for split, rows in splits.items()},
            columns=tuple(columns),
            source="memory",
        )

    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        splits = self._splits(reference)
        if split not in splits:
            raise DataError.of(
                "there is no such split", where=reference, given=split, fix=f"It has {', '.join(sorted(splits))}"
            )
        if not splits[split]:
            raise DataError.of("there are no rows in it", where=f"{reference}[{split}]")
        return RowSet(splits[split][:limit], name=f"{reference}[{split}]")

    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        return iter(self.load(reference, split=split))

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        return self.load(reference, split=split).fingerprint()

    def _splits(self, reference: str) -> Mapping[str, Sequence[Row]]:
        if reference not in self._datasets:
            raise DataError.of(
                f"there is no such data set in memory, {did_you_mean(reference, self._datasets)}", given=reference
            )
        return self._datasets[reference]
