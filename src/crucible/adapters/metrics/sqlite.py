"""How do a run's metrics live in a database? `SqliteMetricsStore`: `metrics.db` in the run's folder."""

import os
import sqlite3
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from crucible.adapters.metrics.line import line_of, row_of
from crucible.adapters.metrics.place import run_folder
from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow, MetricsStore

FILE_NAME = "metrics.db"
_BUSY_S = 30.0
"""How long a process waits for another's write."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, step INTEGER NOT NULL, line TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS rows_by_step ON rows (step);
"""
_LAST = 2**63 - 1


class SqliteMetricsStore(MetricsStore):
    """The table `rows`: number (from 1, without gaps), step, and the line that the jsonl store would write.

    folder: a run's own folder (its name is the run's id), or a folder of such folders.

    Several processes and threads may use a run's database at once; it is in WAL mode, which network file systems
    do not do. A recorded row survives the process; `flush` makes it survive the power too.
    """

    adapter_name: ClassVar[str] = "sqlite"

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder).absolute()
        self._lock = threading.Lock()
        self._open: dict[str, sqlite3.Connection] = {}

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        row = MetricsRow.of(step, values)
        with self._database(run_id, f"the row of step {step} was not recorded") as database:
            database.execute("INSERT INTO rows (step, line) VALUES (?, ?)", (row.step, line_of(row)))

    def flush(self, run_id: str) -> None:
        if run_id in self._open:
            with self._database(run_id, "the rows may not survive a power loss"):
                self._sync(run_id)

    def read(self, run_id: str, *, first: int = 0, last: int | None = None) -> list[MetricsRow]:
        if not self._path(run_id).is_file():
            return []
        with self._database(run_id, "the rows could not be read") as database:
            found = database.execute(
                "SELECT number, line FROM rows WHERE step BETWEEN ? AND ? ORDER BY number",
                (first, _LAST if last is None else last),
            ).fetchall()
        return [self._row(run_id, number, line) for number, line in found]

    def truncate(self, run_id: str, rows: int) -> None:
        if rows < 0:
            raise ValueError(f"a run keeps 0 rows or more; got {rows}")
        with self._database(run_id, f"the rows after the first {rows} were not dropped") as database:
            with database:  # a transaction: rolled back if anything is raised
                database.execute("BEGIN IMMEDIATE")
                (count,) = database.execute("SELECT count(*) FROM rows").fetchone()
                if rows > count:
                    raise self._failure(f"{self._path(run_id)} has {count} rows; it cannot keep the first {rows}")
                database.execute("DELETE FROM rows WHERE number > ?", (rows,))
            self._sync(run_id)

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _path(self, run_id: str) -> Path:
        return run_folder(self._folder, run_id) / FILE_NAME

    def _sync(self, run_id: str) -> None:
        """What was committed is in the log, or was moved from it to the database by a checkpoint, which syncs.

        SQLite keeps no lock on the log, so opening and closing it here drops none.
        """
        path = self._path(run_id)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            file = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    @contextmanager
    def _database(self, run_id: str, loss: str) -> Generator[sqlite3.Connection]:
        """The run's database, for one thread at a time; says what was lost when it refuses."""
        path = self._path(run_id)
        try:
            with self._lock:
                if run_id not in self._open:
                    self._open[run_id] = _connect(path)
                yield self._open[run_id]
        except (sqlite3.Error, OSError) as error:
            raise self._failure(f"{path}: {loss}: {error}") from error

    def _row(self, run_id: str, number: int, line: str) -> MetricsRow:
        try:
            return row_of(line)
        except ValueError as error:
            raise self._failure(f"{self._path(run_id)}: row {number} is damaged") from error

    def _failure(self, message: str) -> PortError:
        return PortError(message, port=self.port_name, adapter=self.adapter_name)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _use_log(database)
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    except BaseException:
        database.close()
        raise
    return database


def _use_log(database: sqlite3.Connection) -> None:
    """SQLite does not wait by itself for another process that is switching the same new database to WAL."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
