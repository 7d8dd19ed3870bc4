"""Where do rows come from? A `DatasetStore`."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, TypeAlias

import msgspec

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
        self._fingerprint = ""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def origin(self, index: int) -> str:
        """Where row `index` came from."""
        return self._origins[index] if self._origins is not None else f"{self.name} row {index + 1}"

    def fingerprint(self) -> str:
        """A hash of the rows' content and order, the same in every process; not of their name or origins."""
        self._fingerprint = self._fingerprint or fingerprint_of_rows(self)
        return self._fingerprint


class RowStream:
    """Rows that are read while one iterates, from the first each time. Never more than one of them is in memory.

    store, reference, split: where they are read. skip: rows left out at the start; limit: the most rows read, the
    skipped ones included (None: all).

    Raises (while one iterates):
        DataError: as `DatasetStore.stream`.
    """

    def __init__(
        self, store: "DatasetStore", reference: str, *, split: str = "train", skip: int = 0, limit: int | None = None
    ) -> None:
        self._store, self._reference, self._split = store, reference, split
        self.skip, self.limit = skip, limit
        self.name = f"{reference}[{split}]"

    def __iter__(self) -> Iterator[Row]:
        return islice(self._store.stream(self._reference, split=self._split), self.skip, self.limit)

    def origin(self, index: int) -> str:
        """Where the row that came as number `index`, from 0, is from."""
        return f"{self.name} row {self.skip + index + 1}"

    def count(self) -> int | None:
        """How many rows there are; None where the store cannot say without fetching them all."""
        rows = self._store.info(self._reference).splits.get(self._split)
        if rows is None:
            return None
        return max(0, min(rows, rows if self.limit is None else self.limit) - self.skip)

    def head(self, count: int) -> RowSet:
        """The first `count` rows, held in memory."""
        rows = list(islice(self, count))
        return RowSet(rows, name=self.name, origins=[self.origin(index) for index in range(len(rows))])

    def fingerprint(self) -> str:
        """What the store knows the rows by; "" if it does not know them."""
        return self._store.fingerprint(self._reference, split=self._split)


def fingerprint_of_rows(rows: Iterable[Row]) -> str:
    """SHA-256 over the rows as JSON with sorted keys, in order. Of a value that JSON cannot hold only its type counts:
    rows that differ in nothing else are taken for the same."""
    taken = hashlib.sha256()
    for row in rows:
        try:
            taken.update(_AS_JSON.encode(row))
        except (TypeError, ValueError, OverflowError, RecursionError):
            taken.update(_AS_JSON.encode(sorted(map(str, row))))
        taken.update(b"\n")
    return taken.hexdigest()


def _type_name(value: object) -> str:
    return type(value).__qualname__


_AS_JSON = msgspec.json.Encoder(enc_hook=_type_name, order="deterministic")


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
        """The rows one by one, without holding them all; each call begins with the first. Errors as for `load`, at
        the first row or at the one that is wrong."""

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        """What the rows are known by, found without holding them all: the same as long as they are, in every
        process, and another one when they change. "" where the store does not know.

        Raises:
            DataError: as `load`, if there is no such data set or split.
        """
        del reference, split
        return ""

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
