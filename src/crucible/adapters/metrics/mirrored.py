"""How does a run have an outside tracker that cannot hurt it? `Mirrored`: a local store, and couriers."""

import threading
from collections.abc import Callable, Mapping
from typing import ClassVar

from crucible.adapters.metrics.courier import Courier, Patience
from crucible.adapters.metrics.jsonl import JsonlMetricsStore
from crucible.adapters.metrics.tracker import Tracker
from crucible.ports.metrics_store import MetricsRow, MetricsStore


class Mirrored(MetricsStore):
    """The local store is the truth: `read`, `truncate` and `flush` are its own. A tracker gets a copy of each row.

    A row is recorded when the local store has it. A thread per run then brings it to the tracker, retries what
    fails with growing pauses, and says so once in the log `crucible`; nothing of this raises or waits, but `close`,
    for a bounded time. `metrics.NAME.sent` beside the local file counts the rows delivered, so a resumed run sends
    only what is new. Rows arrive in order and at least once, each always under the same index.

    open_tracker: makes the tracker of a run, by its id. name: the tracker's, in messages and in that file's name.
    """

    adapter_name: ClassVar[str] = "mirrored"

    def __init__(
        self,
        local: JsonlMetricsStore,
        open_tracker: Callable[[str], Tracker],
        *,
        name: str,
        patience: Patience | None = None,
    ) -> None:
        self._local = local
        self._open_tracker = open_tracker
        self._name = name
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._couriers: dict[str, Courier] = {}

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        row = MetricsRow.of(step, values)
        with self._lock:  # a courier knows rows by their order in the local store
            courier = self._courier(run_id)
            self._local.record(run_id, step, values)
            courier.add(row)

    def flush(self, run_id: str) -> None:
        self._local.flush(run_id)

    def read(self, run_id: str, *, first: int = 0, last: int | None = None) -> list[MetricsRow]:
        return self._local.read(run_id, first=first, last=last)

    def truncate(self, run_id: str, rows: int) -> None:
        with self._lock:
            self._local.truncate(run_id, rows)
            if run_id in self._couriers:
                self._couriers[run_id].truncate(rows)

    def close(self) -> None:
        while self._couriers:
            self._couriers.popitem()[1].close()
        self._local.close()

    def _courier(self, run_id: str) -> Courier:
        if run_id not in self._couriers:
            kept_in = self._local.path(run_id)
            self._couriers[run_id] = Courier(
                self._open_tracker(run_id),
                name=self._name,
                mark=kept_in.with_name(f"metrics.{self._name}.sent"),
                kept_in=kept_in,
                read=lambda: self._local.read(run_id),
                recorded=len(self._local.read(run_id)),
                patience=self._patience,
            )
        return self._couriers[run_id]
