"""Where do rows come from? A `DatasetStore`."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from crucible.ports.port import Port

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is known of a data set before reading its rows. num_rows: by split; None where unknown (streams)."""

    name: str
    splits: Mapping[str, int | None]
    columns: tuple[str, ...]
    license: str = ""
    source: str = ""


class RowSet:
    """An immutable sequence of rows in a fixed order; the operations give a new one and share the rows.

    `origin(i)` says where row i came from, as `file:line` or `name[split] row n`, for error messages.
    """

    def __init__(self, rows: Sequence[Row], *, name: str, origins: Sequence[str] | None = None) -> None:
        self.rows = rows
        self.name = name
        self._origins = origins

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def origin(self, index: int) -> str:
        """Where row `index` came from."""
        return self._origins[index] if self._origins is not None else f"{self.name} row {index + 1}"


class DatasetStore(Port):
    """Loads data sets by reference. Reading is deterministic: the same reference gives the same rows in the
    same order. No call writes anything the user can see outside the cache folder."""

    port_name: ClassVar[str] = "dataset_store"

    @abstractmethod
    def accepts(self, reference: str) -> bool:
        """Whether this store is the one for that reference. Looks, but fetches nothing."""

    @abstractmethod
    def info(self, reference: str) -> DatasetInfo:
        """Splits and columns.

        Raises:
            DataError: if there is no such data set, or it cannot be read.
        """

    @abstractmethod
    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        """All rows of a split, or the first `limit`.

        Raises:
            DataError: if it is missing, empty or malformed (with file and line), or has no such split (with
                the splits it has).
        """

    @abstractmethod
    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        """The rows one by one, without holding them all. Errors as for `load`."""

    def shuffle(self, rows: RowSet, *, seed: int) -> RowSet:
        """A permutation drawn from PCG64(seed)."""
        import numpy as np

        order = np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))
        return self.select(rows, [int(index) for index in order])

    def take(self, rows: RowSet, count: int) -> RowSet:
        """The first `count` rows (all of them when there are fewer)."""
        return self.select(rows, range(min(count, len(rows))))

    def skip(self, rows: RowSet, count: int) -> RowSet:
        """All but the first `count` rows."""
        return self.select(rows, range(min(count, len(rows)), len(rows)))

    def select(self, rows: RowSet, indices: Sequence[int]) -> RowSet:
        """The rows at `indices`, in that order, with their origins.

        Raises:
            IndexError: if an index is out of range.
        """
        return RowSet(
            [rows[index] for index in indices],
            name=rows.name,
            origins=[rows.origin(index) for index in indices],
        )

    def to_list(self, rows: RowSet) -> list[dict[str, Any]]:
        """Copies of the rows."""
        return [dict(row) for row in rows]
