"""How do a run's metrics live in a file? `JsonlMetricsStore`: one line per row, in one write."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow, MetricsStore

FILE_NAME = "metrics.jsonl"


class JsonlMetricsStore(MetricsStore):
    """`metrics.jsonl`, a function of the rows alone: `{"step": 1, "loss": 2.5, "lr": 0.0002}`, names sorted.

    folder: a run's own folder (its name is the run's id), or a folder of such folders.

    A row is one appending write, so it survives the process; `flush` makes it survive the power too. JSON has no
    NaN or infinity: they are the texts "NaN", "Infinity", "-Infinity". A last line that a kill cut short is no row;
    the next row takes its place.
    """

    adapter_name: ClassVar[str] = "jsonl"

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder).absolute()
        self._open: dict[str, int] = {}

    def record(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        if step < 0 or not values or "step" in values:
            raise ValueError(f"a row has a step from 0, and values not named `step`; got step {step}, {[*values]}")
        row = {"step": int(step), **{name: _to_json(float(values[name])) for name in sorted(values)}}
        line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()
        if os.write(self._file(run_id), line) != len(line):
            raise self._failure(f"{self._path(run_id)}: the disk took only a part of a row")

    def flush(self, run_id: str) -> None:
        if run_id in self._open:
            os.fsync(self._open[run_id])

    def read(self, run_id: str) -> list[MetricsRow]:
        path = self._path(run_id)
        data = path.read_bytes() if path.is_file() else b""
        complete = data[: data.rfind(b"\n") + 1]
        return [
            self._row(line, where=f"{path}:{number}") for number, line in enumerate(complete.split(b"\n")[:-1], start=1)
        ]

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _path(self, run_id: str) -> Path:
        if run_id in ("", ".", "..") or "/" in run_id or "\0" in run_id:
            raise ValueError(f"a run's id is a plain file name; got {run_id!r}")
        own = run_id == self._folder.name
        return self._folder / FILE_NAME if own else self._folder / run_id / FILE_NAME

    def _file(self, run_id: str) -> int:
        """The descriptor that appends to the run's file; it ends with a whole line."""
        if run_id not in self._open:
            path = self._path(run_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
            self._open[run_id] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        return self._open[run_id]

    def _row(self, line: bytes, *, where: str) -> MetricsRow:
        try:
            row: dict[str, Any] = json.loads(line)
            return MetricsRow(step=int(row.pop("step")), values={name: float(value) for name, value in row.items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._failure(f"{where}: this line is damaged") from error

    def _failure(self, message: str) -> PortError:
        return PortError(message, port=self.port_name, adapter=self.adapter_name)


def _to_json(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
