"""How do rows reach a tracker without the run waiting for it? A `Courier`: a thread and a bounded buffer."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crucible.adapters.metrics.tracker import Tracker
from crucible.ports.metrics_store import MetricsRow

_LOG = logging.getLogger("crucible")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long, and for how many rows, a courier is patient. Times in seconds.

    rows: kept in memory, and sent at once; older ones that still wait are read from the local store again.
    gather: rows that came within it go together. longest_pause: between two tries; the pause doubles from `gather`.
    slow_after: a `send` that takes longer is reported. at_close: for all that is left when the run is over.
    """

    rows: int = 10_000
    gather: float = 1.0
    longest_pause: float = 60.0
    slow_after: float = 30.0
    at_close: float = 30.0


class Courier:
    """Brings one run's rows to its tracker, in order; `add` never waits.

    name: the tracker's, for messages. mark: a file that keeps how many rows were delivered. kept_in: where the user
    finds all rows. read: all rows of the local store. recorded: how many those are now.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        name: str,
        mark: Path,
        kept_in: Path,
        read: Callable[[], list[MetricsRow]],
        recorded: int,
        patience: Patience,
    ) -> None:
        self._tracker = tracker
        self._name = name
        self._mark = mark
        self._kept_in = kept_in
        self._read = read
        self._patience = patience
        self._lock = threading.Lock()
        self._recorded = recorded
        self._sent = _marked(mark)
        self._tail = deque[MetricsRow](maxlen=patience.rows)  # the last rows recorded; all, or as many as fit
        self._sending_since: float | None = None
        self._reported = False
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"crucible-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many recorded rows are not delivered."""
        return max(0, self._recorded - self._sent)

    def add(self, row: MetricsRow) -> None:
        """Take the row that was recorded last."""
        with self._lock:
            self._tail.append(row)
            self._recorded += 1
        since = self._sending_since
        if since is not None and not self._reported and time.monotonic() - since > self._patience.slow_after:
            self._report(f"no answer for {self._patience.slow_after:g} seconds")

    def truncate(self, rows: int) -> None:
        """Know that only the first `rows` rows are left. What was delivered stays delivered: the rows that take
        the places of the dropped ones have their bytes, so they are not sent again."""
        with self._lock:
            for _ in range(min(len(self._tail), self._recorded - rows)):
                self._tail.pop()
            self._recorded = rows

    def close(self) -> None:
        """Deliver what waits, within `patience.at_close`; say what was not delivered, and where it is."""
        deadline = time.monotonic() + self._patience.at_close
        self._closing.set()
        self._thread.join(self._patience.at_close)
        left = 0.0 if self._thread.is_alive() else max(0.0, deadline - time.monotonic())
        self._given_up.set()
        if self.waiting:
            _LOG.warning(
                "%s: %d of %d metric rows were not delivered; all of them are in %s",
                *(self._name, self.waiting, self._recorded, self._kept_in),
            )
        finishing = threading.Thread(target=self._finish, args=(left,), name=f"crucible-{self._name}", daemon=True)
        finishing.start()
        finishing.join(left + 1)
        self._thread.join(0.1)

    def _work(self) -> None:
        pause = self._patience.gather
        while True:
            self._closing.wait(pause)
            try:
                self._deliver()
                pause = self._patience.gather
            except Exception as error:  # noqa: BLE001  (whatever a service does, the run goes on)
                pause = min(2 * pause, self._patience.longest_pause)
                if not self._given_up.is_set():  # else `close` has said it
                    self._report(f"{type(error).__name__}: {error}")
            if self._closing.is_set() and (not self.waiting or self._given_up.wait(self._patience.gather)):
                return

    def _deliver(self) -> None:
        while not self._given_up.is_set():
            first, rows = self._next()
            if not rows:
                return
            self._sending_since = time.monotonic()
            try:
                self._tracker.send(first, rows)
            finally:
                self._sending_since = None
            with self._lock:
                self._sent = first + len(rows)
                if not self.waiting:
                    self._tail.clear()
            self._keep_mark()

    def _next(self) -> tuple[int, list[MetricsRow]]:
        with self._lock:
            first, waiting = self._sent, self.waiting
            if waiting <= len(self._tail):
                return first, list(self._tail)[len(self._tail) - waiting :]
        return first, self._read()[first : first + self._patience.rows]

    def _keep_mark(self) -> None:
        """In place and of one width, so that a kill leaves the old number or the new one."""
        file = os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(file, f"{self._sent:020d}\n".encode(), 0)
        finally:
            os.close(file)

    def _finish(self, patience: float) -> None:
        try:
            self._tracker.close(patience=patience)
        except Exception as error:  # noqa: BLE001  (whatever a service does, the run goes on)
            _LOG.warning("%s: %s; all metric rows are in %s", self._name, error, self._kept_in)

    def _report(self, problem: str) -> None:
        """Once: a service that is down for hours is one line."""
        if not self._reported:
            self._reported = True
            _LOG.warning(
                "%s: %s; %d metric rows wait and are tried again; the run goes on, and all rows are in %s",
                *(self._name, problem, self.waiting, self._kept_in),
            )


def _marked(mark: Path) -> int:
    try:
        return int(mark.read_text())
    except (OSError, ValueError):
        return 0
