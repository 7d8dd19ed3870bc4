"""Where do metrics go in a test? Into lists: `FakeMetricsStore`."""

from collections.abc import Mapping
from typing import ClassVar

from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow, MetricsStore


class FakeMetricsStore(MetricsStore):
    """Metrics in memory: they last as long as the object."""

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rows: dict[str, list[MetricsRow]] = {}

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        row = MetricsRow.of(step, values)
        self._rows.setdefault(run_id, []).append(row)

    def flush(self, run_id: str) -> None:  # noqa: ARG002  (nothing to make durable)
        return

    def read(self, run_id: str, *, first: int = 0, last: int | None = None) -> list[MetricsRow]:
        rows = self._rows.get(run_id, ())
        return [row for row in rows if first <= row.step and (last is None or row.step <= last)]

    def truncate(self, run_id: str, rows: int) -> None:
        if rows < 0:
            raise ValueError(f"a run keeps 0 rows or more; got {rows}")
        kept = self._rows.get(run_id, [])
        if rows > len(kept):
            message = f"{run_id} has {len(kept)} rows; it cannot keep the first {rows}"
            raise PortError(message, port=self.port_name, adapter=self.adapter_name)
        del kept[rows:]
