"""How do a run's metrics live in a file? `JsonlMetricsStore`: one line per row, in one write."""

import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from crucible.adapters.metrics.line import line_of, row_of
from crucible.adapters.metrics.place import run_folder
from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow, MetricsStore

FILE_NAME = "metrics.jsonl"


class JsonlMetricsStore(MetricsStore):
    """`metrics.jsonl`, a function of the rows alone: `{"step": 1, "loss": 2.5, "lr": 0.0002}`, names sorted.

    folder: a run's own folder (its name is the run's id), or a folder of such folders.

    A run has one writing process at a time; within it, threads may share the store. A row is one appending write,
    so it survives the process; `flush` makes it survive the power too. JSON has no NaN or infinity: they are the
    texts "NaN", "Infinity", "-Infinity". A last line that a kill cut short is no row; the next row takes its place.
    """

    adapter_name: ClassVar[str] = "jsonl"

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder).absolute()
        self._lock = threading.RLock()
        self._open: dict[str, int] = {}

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        line = f"{line_of(MetricsRow.of(step, values))}\n".encode()
        with self._disk(run_id, f"the row of step {step} was not recorded"):
            file = self._file(run_id)
            written = os.write(file, line)
            if written != len(line):
                os.ftruncate(file, os.fstat(file).st_size - written)
                raise OSError("the disk took only a part of it")

    def flush(self, run_id: str) -> None:
        with self._disk(run_id, "the rows may not survive a power loss"):
            if run_id in self._open:
                os.fsync(self._open[run_id])

    def read(self, run_id: str, *, first: int = 0, last: int | None = None) -> list[MetricsRow]:
        rows = [self._row(run_id, number, line) for number, line in enumerate(self._lines(run_id), start=1)]
        return [row for row in rows if first <= row.step and (last is None or row.step <= last)]

    def truncate(self, run_id: str, rows: int) -> None:
        if rows < 0:
            raise ValueError(f"a run keeps 0 rows or more; got {rows}")
        with self._disk(run_id, f"the rows after the first {rows} were not dropped"):
            lines = self._lines(run_id)
            if rows > len(lines):
                raise self._failure(f"{self.path(run_id)} has {len(lines)} rows; it cannot keep the first {rows}")
            if not self.path(run_id).exists():
                return  # a run without metrics leaves no file, continued or not
            file = self._file(run_id)
            os.ftruncate(file, sum(len(line) + 1 for line in lines[:rows]))
            os.fsync(file)

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def path(self, run_id: str) -> Path:
        """The run's file.

        Raises:
            ValueError: if the id is no plain file name.
        """
        return run_folder(self._folder, run_id) / FILE_NAME

    def _lines(self, run_id: str) -> list[bytes]:
        """The whole lines, without their ends."""
        with self._disk(run_id, "the rows could not be read"):
            path = self.path(run_id)
            return (path.read_bytes() if path.is_file() else b"").split(b"\n")[:-1]

    def _file(self, run_id: str) -> int:
        """The descriptor that appends to the run's file: it ends with a whole line, and its name is on the disk."""
        if run_id not in self._open:
            path = self.path(run_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
            self._open[run_id] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self._open[run_id]

    def _row(self, run_id: str, number: int, line: bytes) -> MetricsRow:
        try:
            return row_of(line)
        except ValueError as error:
            raise self._failure(f"{self.path(run_id)}:{number}: this line is damaged") from error

    def _failure(self, message: str) -> PortError:
        return PortError(message, port=self.port_name, adapter=self.adapter_name)

    @contextmanager
    def _disk(self, run_id: str, loss: str) -> Generator[None]:
        """One thread at a time; says what was lost when the disk refuses."""
        try:
            with self._lock:
                yield
        except OSError as error:
            raise self._failure(f"{self.path(run_id)}: {loss}: {error.strerror or error}") from error
