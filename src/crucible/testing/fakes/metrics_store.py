"""Where do metrics go in a test? Into lists: `FakeMetricsStore`."""

from collections.abc import Mapping
from typing import ClassVar

from crucible.ports.metrics_store import MetricsRow, MetricsStore


class FakeMetricsStore(MetricsStore):
    """Metrics in memory: they last as long as the object."""

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rows: dict[str, list[MetricsRow]] = {}

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        if step < 0 or not values or "step" in values:
            raise ValueError(f"a row has a step from 0, and values not named `step`; got step {step}, {[*values]}")
        row = MetricsRow(step=step, values={name: float(value) for name, value in values.items()})
        self._rows.setdefault(run_id, []).append(row)

    def flush(self, run_id: str) -> None:  # noqa: ARG002  (nothing to make durable)
        return

    def read(self, run_id: str) -> list[MetricsRow]:
        return list(self._rows.get(run_id, ()))
