"""Where do a run's numbers go? A `MetricsStore`."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from crucible.ports.port import Port


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """What was recorded at one step."""

    step: int
    values: Mapping[str, float]

    @classmethod
    def of(cls, step: int, values: Mapping[str, float]) -> Self:
        """The row as every store keeps it: a copy, of plain numbers, by sorted names.

        Raises:
            ValueError: if step is negative, values is empty, or one of them is named `step`.
        """
        if step < 0 or not values or "step" in values:
            raise ValueError(f"a row has a step from 0, and values not named `step`; got step {step}, {[*values]}")
        return cls(step=int(step), values={name: float(values[name]) for name in sorted(values)})


class MetricsStore(Port):
    """Numbers by run and step, in the order recorded.

    Only values that are a function of config, data and seed belong here (times and speeds are events).
    A recorded row survives the process being killed; a row that the kill cut short is no row.
    """

    port_name: ClassVar[str] = "metrics_store"

    @abstractmethod
    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row. NaN and infinity are kept as such.

        Raises:
            ValueError: if step is negative, values is empty, or one of them is named `step`.
            PortError: if it could not be written (a full disk, a read-only folder); then nothing of it stays.
        """

    @abstractmethod
    def flush(self, run_id: str) -> None:
        """Return when what was recorded is durable.

        Raises:
            PortError: if it could not be made so.
        """

    @abstractmethod
    def read(self, run_id: str, *, first: int = 0, last: int | None = None) -> list[MetricsRow]:
        """The rows with `first <= step <= last` in the order recorded; empty for a run that recorded none.

        last: None for no upper bound.

        Raises:
            PortError: if what is kept is damaged.
        """

    @abstractmethod
    def truncate(self, run_id: str, rows: int) -> None:
        """Keep the first `rows` rows recorded and forget the rest, durably; `record` appends after them.

        A resume calls it with the number of rows that its checkpoint counts.

        Raises:
            ValueError: if rows is negative.
            PortError: if the run has fewer rows than that; then nothing changes.
        """
