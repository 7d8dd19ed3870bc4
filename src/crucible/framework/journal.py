"""What grew during a run, and what of it is written down? Metrics, results, artifacts, checkpoints, stages."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from crucible.errors import PortError
from crucible.framework.atomic import append_durably, write_atomically
from crucible.framework.entries import Artifact, Checkpoint, Completed, Entry, Failures, Request, Result, Skipped
from crucible.framework.journal_file import FILE_NAME, JournalFile
from crucible.framework.point import START, Point, Saved, without
from crucible.framework.position import Position, to_plain
from crucible.ports import MetricsStore
from crucible.ports.metrics_store import MetricsRow

CHECKPOINTS = "checkpoints.jsonl"
SKIPPED = "skipped_stages"
"""The result that says, by path, why stages were passed over."""
_MOST_FAILURES = 100
"""Of one `Parallel`, as a result tells them: every point writes it down."""


class Journal:
    """Keeps what stages recorded, in order; metrics go to a `MetricsStore` too, checkpoints and points to files.

    run_dir: where `checkpoints.jsonl` and `journal.jsonl` are appended to, one write per record; None keeps all in
    memory. The metrics of a checkpoint's step are durable before its line is written.
    """

    def __init__(self, *, run_id: str = "", run_dir: Path | None = None, store: MetricsStore | None = None) -> None:
        self._run_id = run_id
        self._run_dir = run_dir
        self._store = store
        self._file: JournalFile | None = None
        self._rows_hash = hashlib.sha256()
        self._pending = _Growth()
        self.last = START
        self.metrics: list[MetricsRow] = []
        self.results: dict[str, Any] = {}
        self.artifacts: dict[str, Path | str] = {}
        self.checkpoints: list[Mapping[str, Any]] = []
        self.completed: Counter[str] = Counter()

    @property
    def writes(self) -> bool:
        """Whether points reach a disk."""
        return self._run_dir is not None

    def add(self, entry: Entry) -> None:
        """Take one entry. A result or artifact replaces an earlier one of its name."""
        match entry:
            case MetricsRow(step=step, values=values):
                if self._store is not None:
                    self._store.record(self._run_id, step, values)  # first: a row that it refuses does not count
                self.metrics.append(entry)
                self._rows_hash.update(_row_bytes(entry))
            case Result(name, value):
                self.results[name] = self._pending.results[name] = value
            case Artifact(name, path):
                self.artifacts[name] = path
                self._pending.artifacts[name] = str(path)
            case Completed(stage, times):
                self.completed[stage] += times
                self._pending.completed[stage] += times
            case Skipped(path, why):
                self.add(Result(SKIPPED, {**self.results.get(SKIPPED, {}), path: why}))
            case Failures(result, why):
                self.add(Result(result, _with(self.results.get(result, {}), why)))
            case Checkpoint(record):
                self.flush()
                if self._run_dir is not None:
                    append_durably(self._run_dir / CHECKPOINTS, msgspec.json.encode(record) + b"\n")
                self.checkpoints.append(record)
                self._pending.checkpoints.append(record)

    def flush(self) -> None:
        """Return when the recorded metrics are durable."""
        if self._store is not None:
            self._store.flush(self._run_id)

    def note(self, kind: str, **facts: Any) -> None:
        """Write a record that is no point: what the run was started with."""
        if self._run_dir is not None:
            self._opened().append({"kind": kind, **facts}, durable=True)

    def commit(
        self,
        position: Position,
        saved: Mapping[str, Saved],
        *,
        fingerprints: Mapping[str, str],
        ended: frozenset[str] = frozenset(),
        name: str = "",
        pending: Sequence[Sequence[Request]] = (),
        durable: bool = False,
    ) -> None:
        """Write a point: from now on the run can be continued at this position.

        saved: the durable slots saved since the last point. ended: those whose value is of no use any more.
        durable: return when it is on the disk.
        """
        if self._run_dir is None:
            return
        if durable:
            self.flush()  # it says how many rows there are: none of them may be lost where it is not
        grown, self._pending = self._pending, _Growth()
        record = {
            "kind": "point",
            "number": self.last.number + 1,
            "position": to_plain(position),
            "name": name,
            "slots": saved,
            "ended": sorted(ended & self.last.slots.keys()),
            "results": grown.results,
            "artifacts": grown.artifacts,
            "checkpoints": grown.checkpoints,
            "completed": grown.completed,
            "fingerprints": fingerprints,
            "pending": pending,
            "metrics": {"rows": len(self.metrics), "sha256": self._rows_hash.hexdigest()},
        }
        self._opened().append(record, durable=durable)
        self.last = Point(
            number=self.last.number + 1,
            position=position,
            name=name,
            slots=without(ended, {**self.last.slots, **saved}),
            fingerprints={**self.last.fingerprints, **fingerprints},
        )

    def rows_of(self, point: Point) -> Sequence[MetricsRow] | None:
        """The metrics recorded until a point, as the store holds them now; None if they are not what they were.

        Where the store is damaged behind them, it is cut there.
        """
        count = point.metrics_rows
        if self._store is None or self._store.is_noop:  # it keeps nothing, so there is nothing to lose
            return ()
        try:
            rows = self._store.read(self._run_id)[:count]
        except PortError:
            try:
                self._store.truncate(self._run_id, count)
                rows = self._store.read(self._run_id)
            except PortError:
                return None
        same = len(rows) == count and (count == 0 or rows_hash(rows).hexdigest() == point.metrics_sha256)
        return rows if same else None

    def rewind(self, point: Point, rows: Sequence[MetricsRow]) -> None:
        """Take the state of a point: what was recorded after it is taken back, in the store and in the files.

        rows: those of the point, as `rows_of` gave them.
        """
        if self._store is not None and not self._store.is_noop:
            self._store.truncate(self._run_id, len(rows))
        if self._run_dir is not None:
            lines = [msgspec.json.encode(record) + b"\n" for record in point.checkpoints]
            if lines or (self._run_dir / CHECKPOINTS).exists():
                write_atomically(self._run_dir / CHECKPOINTS, b"".join(lines))
            self._opened().append({"kind": "resume", "from": point.number}, durable=True)
        self._pending, self.last = _Growth(), point
        self.metrics, self._rows_hash = list(rows), rows_hash(rows)
        self.results, self.artifacts = dict(point.results), dict(point.artifacts)
        self.checkpoints, self.completed = list(point.checkpoints), Counter(point.completed)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> JournalFile:
        assert self._run_dir is not None, "only a journal with a folder writes"
        if self._file is None:
            self._file = JournalFile(self._run_dir / FILE_NAME)
        return self._file


class _Growth:
    """What came since the last point."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.artifacts: dict[str, str] = {}
        self.checkpoints: list[Mapping[str, Any]] = []
        self.completed: Counter[str] = Counter()


def _with(told: Mapping[str, Any], failures: Mapping[str, str]) -> dict[str, Any]:
    """Those told and these, the newest; of the others, how many `earlier` ones there were."""
    every: dict[str, Any] = {**told, **failures}
    before = every.pop("earlier", 0)
    newest = dict(list(every.items())[-_MOST_FAILURES:])
    earlier = before + len(every) - len(newest)
    return {"earlier": earlier, **newest} if earlier else newest


def rows_hash(rows: Sequence[MetricsRow]):
    """A hash that has taken in these rows, in order."""
    taken = hashlib.sha256()
    for row in rows:
        taken.update(_row_bytes(row))
    return taken


def _row_bytes(row: MetricsRow) -> bytes:
    values = sorted((name, float(value).hex()) for name, value in row.values.items())
    return msgspec.json.encode((row.step, values))
