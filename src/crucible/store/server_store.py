"""What does a server remember: sessions, runs, samplers and checkpoints, each its owner's alone?

Whatever is read by its id is read with the owner who asks: another's is answered as one that does not exist. An
expired checkpoint is one that does not exist either; only `expired` still lists it.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, or_, select, update

from crucible.errors import CheckpointError
from crucible.store.database import Database
from crucible.store.server_keys import KeyStore
from crucible.store.server_records import (
    CheckpointKind,
    CheckpointRecord,
    EndReason,
    Page,
    RunRecord,
    SamplerRecord,
    SessionRecord,
)
from crucible.store.server_tables import CHECKPOINTS, RUNS, SAMPLERS, SESSIONS

T = TypeVar("T")
_C = CHECKPOINTS.c
_MOST_IN_A_QUERY = 500  # SQLite takes some thousands of parameters; a page is far below


class ServerStore:
    """A server's database. Safe from any thread; every method raises StoreError if the database fails.

    keys: the API keys. clock: seconds since 1970, by which checkpoints expire.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self.keys = KeyStore(database, clock=clock)

    def __repr__(self) -> str:
        return f"ServerStore({self._database.shown})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database's connections. Safe to call twice, and before more work: that connects again."""
        self._database.close()

    @property
    def database(self) -> Database:
        """Where all of it is."""
        return self._database

    # Sessions

    def add_session(self, record: SessionRecord) -> None:
        """Remember a session, its time to the microsecond: as exactly as a search's cursor tells it."""
        with self._database.write() as connection:
            connection.execute(insert(SESSIONS), asdict(record) | {"created_at": round(record.created_at, 6)})

    def session(self, session_id: str, *, owner: str) -> SessionRecord | None:
        """The owner's session of this id."""
        wanted = select(SESSIONS).where(SESSIONS.c.session_id == session_id, SESSIONS.c.owner == owner)
        return next(iter(self._all(wanted, session_record)), None)

    def sessions(self, *, owner: str, limit: int, offset: int = 0) -> Page[SessionRecord]:
        """The owner's sessions, the newest first."""
        wanted = select(SESSIONS).where(SESSIONS.c.owner == owner)
        return self._page(wanted, session_record, (SESSIONS.c.created_at, SESSIONS.c.session_id), limit, offset)

    def end_session(self, session_id: str, *, reason: EndReason, detail: str = "") -> None:
        """Say that a session is over, and why; the first reason stays."""
        self._end(SESSIONS.c.session_id == session_id, reason, detail)

    def end_open_sessions(self, *, reason: EndReason, detail: str = "") -> int:
        """Say so of every session that is open, as a server does that starts; returns how many there were."""
        return self._end(SESSIONS.c.ended_at.is_(None), reason, detail)

    def assign_project(self, session_id: str, project_id: str, *, owner: str) -> bool:
        """Put a session and its runs into a project; False if the owner has no such session."""
        with self._database.write() as connection:
            mine = (SESSIONS.c.session_id == session_id) & (SESSIONS.c.owner == owner)
            if connection.execute(update(SESSIONS).where(mine).values(project_id=project_id)).rowcount == 0:
                return False
            connection.execute(update(RUNS).where(RUNS.c.session_id == session_id).values(project_id=project_id))
            return True

    def _end(self, which: ColumnElement[bool], reason: EndReason, detail: str) -> int:
        statement = update(SESSIONS).where(which, SESSIONS.c.ended_at.is_(None))
        with self._database.write() as connection:
            ended = statement.values(ended_at=self._clock(), end_reason=reason, end_detail=detail)
            return connection.execute(ended).rowcount

    # Runs and samplers

    def add_run(self, record: RunRecord) -> None:
        """Remember a run; its session, if it has one, is there already."""
        with self._database.write() as connection:
            connection.execute(insert(RUNS), asdict(record))

    def run(self, run_id: str, *, owner: str) -> RunRecord | None:
        """The owner's run of this id."""
        return next(iter(self._all(select(RUNS).where(RUNS.c.run_id == run_id, RUNS.c.owner == owner), _run)), None)

    def run_of(self, checkpoint: CheckpointRecord) -> RunRecord:
        """The run that a checkpoint which the caller may see was saved from: what base model, which LoRA."""
        (found,) = self._all(select(RUNS).where(RUNS.c.run_id == checkpoint.run_id), _run)
        return found

    def runs(self, *, owner: str, limit: int, offset: int = 0, project_id: str | None = None) -> Page[RunRecord]:
        """The owner's runs, the one used last first."""
        wanted = select(RUNS).where(RUNS.c.owner == owner)
        wanted = wanted if project_id is None else wanted.where(RUNS.c.project_id == project_id)
        return self._page(wanted, _run, (RUNS.c.last_request_at, RUNS.c.run_id), limit, offset)

    def runs_of_session(self, session_id: str, *, owner: str) -> tuple[RunRecord, ...]:
        """The runs of the owner's session, in the order they were made."""
        wanted = select(RUNS).where(RUNS.c.session_id == session_id, RUNS.c.owner == owner)
        return self._all(wanted.order_by(RUNS.c.created_at, RUNS.c.run_id), _run)

    def touch_runs(self, run_ids: Collection[str], *, at: float) -> None:
        """Say when runs were used last; one transaction for all of them."""
        with self._database.write() as connection:
            for run_id in run_ids:
                connection.execute(update(RUNS).where(RUNS.c.run_id == run_id).values(last_request_at=at))

    def add_sampler(self, record: SamplerRecord) -> None:
        """Remember a sampling session; its session is there already."""
        with self._database.write() as connection:
            connection.execute(insert(SAMPLERS), asdict(record))

    def sampler(self, sampler_id: str, *, owner: str) -> SamplerRecord | None:
        """The owner's sampling session of this id."""
        wanted = select(SAMPLERS).where(SAMPLERS.c.sampler_id == sampler_id, SAMPLERS.c.owner == owner)
        return next(iter(self._all(wanted, _sampler)), None)

    def samplers_of_session(self, session_id: str, *, owner: str) -> tuple[SamplerRecord, ...]:
        """The sampling sessions of the owner's session, in the order they were made."""
        wanted = select(SAMPLERS).where(SAMPLERS.c.session_id == session_id, SAMPLERS.c.owner == owner)
        return self._all(wanted.order_by(SAMPLERS.c.created_at, SAMPLERS.c.sampler_id), _sampler)

    # Checkpoints

    def add_checkpoint(self, record: CheckpointRecord, *, overwrite: bool = False) -> CheckpointRecord | None:
        """Remember a checkpoint whose files are on the disk; its run is there already.

        An expired one of the same name makes way for it. Returns the record that it took the place of.

        Raises:
            CheckpointError: if there is one of this name that is not to be overwritten.
        """
        same = _named(record.run_id, record.kind, record.name)
        with self._database.write() as connection:
            row = connection.execute(select(CHECKPOINTS).where(same)).first()
            replaced = None if row is None else _checkpoint(row)
            if replaced is not None:
                if not overwrite and not self._is_expired(replaced):
                    raise CheckpointError.of(
                        "a checkpoint of this name exists",
                        where=record.tinker_path,
                        fix="Choose another name, or save with overwrite=True",
                    )
                connection.execute(delete(CHECKPOINTS).where(same))
            connection.execute(insert(CHECKPOINTS), asdict(record))
            return replaced

    def checkpoint(self, run_id: str, kind: CheckpointKind, name: str, *, owner: str) -> CheckpointRecord | None:
        """The checkpoint, if it is the owner's or public, and has not expired."""
        seen = or_(_C.owner == owner, _C.public.is_(True))
        wanted = select(CHECKPOINTS).where(_named(run_id, kind, name), seen, self._in_force())
        return next(iter(self._all(wanted, _checkpoint)), None)

    def checkpoints(self, *, owner: str, limit: int, offset: int = 0) -> Page[CheckpointRecord]:
        """The owner's checkpoints, the newest first."""
        wanted = select(CHECKPOINTS).where(_C.owner == owner, self._in_force())
        return self._page(wanted, _checkpoint, (_C.created_at, _C.run_id, _C.kind, _C.name), limit, offset)

    def checkpoints_of_runs(self, run_ids: Sequence[str], *, owner: str) -> dict[str, list[CheckpointRecord]]:
        """Of each run that is the owner's, its checkpoints, the oldest first."""
        found: dict[str, list[CheckpointRecord]] = {run_id: [] for run_id in run_ids}
        for start in range(0, len(run_ids), _MOST_IN_A_QUERY):
            some = run_ids[start : start + _MOST_IN_A_QUERY]
            wanted = select(CHECKPOINTS).where(_C.run_id.in_(some), _C.owner == owner, self._in_force())
            for record in self._all(wanted.order_by(_C.created_at, _C.kind, _C.name), _checkpoint):
                found[record.run_id].append(record)
        return found

    def delete_checkpoint(self, record: CheckpointRecord) -> bool:
        """Forget it, if it is still the one that it was; False if it is not. Its files are not touched."""
        same = and_(_named(record.run_id, record.kind, record.name), _C.engine_path == record.engine_path)
        with self._database.write() as connection:
            return connection.execute(delete(CHECKPOINTS).where(same)).rowcount > 0

    def set_ttl(self, record: CheckpointRecord, *, expires_at: float | None) -> None:
        """When it expires; None is never."""
        self._set(record, {"expires_at": expires_at})

    def set_public(self, record: CheckpointRecord, *, public: bool) -> None:
        """Whether every key may read it."""
        self._set(record, {"public": public})

    def expired(self) -> tuple[CheckpointRecord, ...]:
        """Every owner's checkpoints whose time is over and which are still remembered."""
        return self._all(select(CHECKPOINTS).where(_C.expires_at <= self._clock()), _checkpoint)

    def engine_paths(self) -> frozenset[str]:
        """Every path that some record, expired or not, names."""
        with self._database.read() as connection:
            return frozenset(connection.execute(select(_C.engine_path).distinct()).scalars())

    def storage(self, *, owner: str) -> list[tuple[str | None, int, int]]:
        """Of each project of the owner's runs (None: of none): its id, how many checkpoints, how many bytes."""
        counted = select(RUNS.c.project_id, func.count(), func.sum(_C.size_bytes)).join(
            RUNS, RUNS.c.run_id == _C.run_id
        )
        wanted = counted.where(_C.owner == owner, self._in_force()).group_by(RUNS.c.project_id)
        with self._database.read() as connection:
            rows = [(project_id, count, int(size)) for project_id, count, size in connection.execute(wanted)]
        return sorted(rows, key=lambda row: row[0] or "")

    def records_of(self, engine_paths: Collection[str]) -> tuple[CheckpointRecord, ...]:
        """Every owner's records, expired or not, that name one of these paths."""
        return tuple(
            record for record in self._all(select(CHECKPOINTS), _checkpoint) if record.engine_path in engine_paths
        )

    def is_used(self, engine_path: str) -> bool:
        """Whether some record names this path: it may not be deleted then."""
        with self._database.read() as connection:
            return connection.execute(select(_C.name).where(_C.engine_path == engine_path).limit(1)).first() is not None

    def _set(self, record: CheckpointRecord, values: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            same = _named(record.run_id, record.kind, record.name)
            connection.execute(update(CHECKPOINTS).where(same).values(**values))

    def _in_force(self) -> ColumnElement[bool]:
        return or_(_C.expires_at.is_(None), _C.expires_at > self._clock())

    def _is_expired(self, record: CheckpointRecord) -> bool:
        return record.expires_at is not None and record.expires_at <= self._clock()

    def _all(self, wanted: Select[Any], make: Callable[[Row[Any]], T]) -> tuple[T, ...]:
        with self._database.read() as connection:
            return tuple(make(row) for row in connection.execute(wanted))

    def _page(
        self,
        wanted: Select[Any],
        make: Callable[[Row[Any]], T],
        newest: Sequence[ColumnElement[Any]],
        limit: int,
        offset: int,
    ) -> Page[T]:
        ordered = wanted.order_by(*(column.desc() for column in newest)).limit(limit).offset(offset)
        with self._database.read() as connection:
            total = connection.execute(select(func.count()).select_from(wanted.subquery())).scalar_one()
            return Page(items=tuple(make(row) for row in connection.execute(ordered)), total=total)


def session_record(row: Row[Any]) -> SessionRecord:
    """A row of the sessions as its record."""
    values = _values(row, SessionRecord)
    values["tags"] = tuple(values["tags"])
    return SessionRecord(**values)


def _run(row: Row[Any]) -> RunRecord:
    return RunRecord(**_values(row, RunRecord))


def _sampler(row: Row[Any]) -> SamplerRecord:
    return SamplerRecord(**_values(row, SamplerRecord))


def _checkpoint(row: Row[Any]) -> CheckpointRecord:
    return CheckpointRecord(**_values(row, CheckpointRecord))


def _values(row: Row[Any], record: type[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in record.__dataclass_fields__}


def _named(run_id: str, kind: str, name: str) -> ColumnElement[bool]:
    return and_(_C.run_id == run_id, _C.kind == kind, _C.name == name)
