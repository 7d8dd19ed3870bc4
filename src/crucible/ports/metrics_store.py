"""Where do a run's numbers go? A `MetricsStore`."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from crucible.ports.port import Port


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """What was recorded at one step."""

    step: int
    values: Mapping[str, float]


class MetricsStore(Port):
    """Numbers by run and step, in the order recorded.

    Only values that are a function of config, data and seed belong here (times and speeds are events).
    A recorded row survives the process being killed.
    """

    port_name: ClassVar[str] = "metrics_store"

    @abstractmethod
    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Append one row. NaN and infinity are kept as such.

        Raises:
            ValueError: if step is negative, values is empty, or one of them is named `step`.
        """

    @abstractmethod
    def flush(self, run_id: str) -> None:
        """Return when what was recorded is durable."""

    @abstractmethod
    def read(self, run_id: str) -> list[MetricsRow]:
        """All rows in order; empty for a run that recorded none."""
