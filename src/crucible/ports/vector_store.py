"""Where are vectors kept, and which are nearest to this one? A `VectorStore`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.ports.port import Port

Scalar: TypeAlias = str | int | float | bool
"""What metadata holds. A truth value is not a number: `True` does not match 1."""

Where: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]
"""Every key must be in the metadata, with the value given, or with one of the values given."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A named set of vectors of one dimension, as it was when asked. size: records in it."""

    name: str
    dimension: int
    size: int


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorRecord:
    """One vector (D,), of any length but 0, and what it stands for. id: unique in its collection."""

    id: str
    vector: NDArray[np.float32]
    text: str = ""
    metadata: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])


@dataclass(frozen=True, kw_only=True)
class Match:
    """A record that was found. score: the cosine of its vector and the one asked about, in [-1, 1]."""

    id: str
    score: float
    text: str
    metadata: Mapping[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class VectorCapabilities:
    """exact: a query finds the true nearest, and what is equally near in the order added."""

    exact: bool = True


class VectorStore(Port):
    """Vectors in named collections, found again by direction.

    Every method raises PortError when the backend fails. A call that raises changes nothing.
    """

    port_name: ClassVar[str] = "vector_store"

    @abstractmethod
    def capabilities(self) -> VectorCapabilities:
        """What this backend can do."""

    @abstractmethod
    def create_collection(self, name: str, *, dimension: int) -> Collection:
        """A new, empty collection.

        Raises:
            ValueError: if the name is empty or taken, or the dimension is below 1.
        """

    @abstractmethod
    def get_collection(self, name: str) -> Collection:
        """The collection of that name.

        Raises:
            LookupError: if there is none.
        """

    def get_or_create_collection(self, name: str, *, dimension: int) -> Collection:
        """The collection of that name, made if need be.

        Raises:
            ValueError: as for `create_collection`, or if it is there with another dimension.
        """
        try:
            found = self.get_collection(name)
        except LookupError:
            return self.create_collection(name, dimension=dimension)
        if found.dimension != dimension:
            raise ValueError(f"the collection {name!r} has dimension {found.dimension}, not {dimension}")
        return found

    @abstractmethod
    def delete_collection(self, name: str) -> None:
        """Remove it with all it holds; a name that is not there is no error."""

    @abstractmethod
    def add(self, collection: str, records: Sequence[VectorRecord]) -> None:
        """Add records, all or none.

        Raises:
            LookupError: if there is no such collection.
            ValueError: if an id is empty, taken or given twice, or a vector has another dimension, length 0, or a
                value that is not finite.
        """

    @abstractmethod
    def query(
        self, collection: str, vector: NDArray[np.float32], *, limit: int = 10, where: Where | None = None
    ) -> list[Match]:
        """At most `limit` records whose metadata fits `where`, the nearest by cosine first.

        Raises:
            LookupError: if there is no such collection.
            ValueError: if the limit is below 1, or the vector is one that `add` would refuse.
        """


def matches(metadata: Mapping[str, Scalar], where: Where | None) -> bool:
    """Whether metadata fits a filter."""
    return all(key in metadata and _fits(metadata[key], wanted) for key, wanted in (where or {}).items())


def _fits(value: Scalar, wanted: Scalar | Sequence[Scalar]) -> bool:
    choices = [wanted] if isinstance(wanted, (str, int, float)) else wanted
    return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)


def require_direction(vector: NDArray[np.float32], dimension: int) -> NDArray[np.float64]:
    """The vector (D,) at length 1.

    Raises:
        ValueError: if it has another dimension, length 0, or a value that is not finite.
    """
    values = np.asarray(vector, dtype=np.float64)
    if values.shape != (dimension,):
        raise ValueError(f"the collection's vectors have shape ({dimension},); got {values.shape}")
    length = float(np.linalg.norm(values))
    if not 0 < length < float("inf"):
        raise ValueError("a vector of length 0, or with a value that is not finite, has no direction")
    return values / length


def require_new(records: Sequence[VectorRecord], taken: Mapping[str, object] | set[str]) -> None:
    """The check of ids that every adapter makes first.

    Raises:
        ValueError: if an id is empty, in `taken`, or there twice.
    """
    seen: set[str] = set()
    for record in records:
        if not record.id or record.id in taken or record.id in seen:
            raise ValueError(f"a record's id is a text that is new to its collection; got {record.id!r}")
        seen.add(record.id)
