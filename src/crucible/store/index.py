"""What does the store say about the runs of one folder, and how is it told?"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from sqlalchemy import Connection, Row, and_, delete, func, or_, select
from sqlalchemy.sql.schema import Table

from crucible.store.database import Database
from crucible.store.failure import StoreError
from crucible.store.records import (
    ArtifactRecord,
    CheckpointRecord,
    Edge,
    ExperimentRecord,
    MetricLine,
    RunContents,
    RunRecord,
    StageRecord,
)
from crucible.store.tables import (
    ARTIFACTS,
    CHECKPOINTS,
    EXPERIMENTS,
    LINEAGE,
    METRICS,
    OF_A_RUN,
    RUNS,
    STAGES,
)


class RunIndex:
    """The runs of one folder in a database that may hold those of many.

    folder: what the runs folder is called there. Every method raises StoreError if the database fails.
    """

    def __init__(self, database: Database, *, folder: str) -> None:
        self._database = database
        self._folder = folder

    def __repr__(self) -> str:
        return f"RunIndex({self._database.shown}, folder={self._folder!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database's connections. Safe to call twice, and before more work: that connects again."""
        self._database.close()

    def write(self, contents: RunContents, *, whole: bool) -> None:
        """Put a run in, in one transaction: in place of all that was known of it if `whole`, else beside it.

        A line or name that is there already is replaced, so writing the same thing twice changes nothing.
        """
        with self._database.write() as connection:
            run = self._write_run(connection, contents)
            if whole:
                for table in OF_A_RUN:
                    connection.execute(delete(table).where(table.c.run == run))
            self._put(connection, STAGES, run, contents.stages)
            self._put(connection, CHECKPOINTS, run, contents.checkpoints)
            self._put(connection, ARTIFACTS, run, contents.artifacts)
            self._put(connection, LINEAGE, run, contents.edges)
            self._put_metrics(connection, run, contents.metrics)

    def append_metrics(self, name: str, lines: Sequence[MetricLine]) -> None:
        """Add lines to a run that was written before, in one transaction.

        Raises:
            StoreError: also if there is no such run.
        """
        with self._database.write() as connection:
            run = self._id(connection, name)
            if run is None:
                raise StoreError.of("there is no such run in the store", where=self._database.shown, given=name)
            self._put_metrics(connection, run, lines)

    def forget(self, names: Collection[str]) -> None:
        """Take runs out, and with them all that is known of them; their folders are not touched."""
        with self._database.write() as connection:
            for name in names:
                run = self._id(connection, name)
                for table in OF_A_RUN:
                    connection.execute(delete(table).where(table.c.run == run))
                connection.execute(delete(RUNS).where(RUNS.c.id == run))
            used = select(RUNS.c.experiment).where(RUNS.c.experiment.is_not(None))
            connection.execute(delete(EXPERIMENTS).where(EXPERIMENTS.c.digest.not_in(used)))

    def known(self) -> dict[str, tuple[str, str, float]]:
        """Each run's name, and the fingerprint, the state and the time with which it was written last."""
        wanted = select(RUNS.c.name, RUNS.c.fingerprint, RUNS.c.state, RUNS.c.indexed_at)
        with self._database.read() as connection:
            rows = connection.execute(wanted.where(RUNS.c.folder == self._folder))
            return {name: (fingerprint, state, at) for name, fingerprint, state, at in rows}

    def runs(self, *, state: str | None = None, recipe: str | None = None, limit: int | None = None) -> list[RunRecord]:
        """The runs, the one that started last first; those of unknown start at the end."""
        wanted = select(RUNS).where(RUNS.c.folder == self._folder)
        wanted = wanted.where(RUNS.c.state == state) if state else wanted
        wanted = wanted.where(RUNS.c.recipe == recipe) if recipe else wanted
        wanted = wanted.order_by(RUNS.c.started_at.is_(None), RUNS.c.started_at.desc(), RUNS.c.name).limit(limit)
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(wanted)]

    def contents(self, name: str) -> RunContents | None:
        """All that is known of a run; None if there is none of that name."""
        with self._database.read() as connection:
            row = connection.execute(self._named(name)).first()
            if row is None:
                return None

            def rows(table: Table, *order: str) -> list[dict[str, Any]]:
                # Sorted here: databases do not agree on the order of texts.
                found = [dict(one) for one in connection.execute(select(table).where(table.c.run == row.id)).mappings()]
                found.sort(key=lambda one: [one[key] for key in order])
                return [{key: value for key, value in one.items() if key != "run"} for one in found]

            wanted = select(EXPERIMENTS).where(EXPERIMENTS.c.digest == row.experiment)
            experiment = connection.execute(wanted).mappings().first()
            return RunContents(
                run=_run(row),
                experiment=ExperimentRecord(**dict(experiment)) if experiment else None,
                stages=tuple(StageRecord(**one) for one in rows(STAGES, "position", "path")),
                checkpoints=tuple(CheckpointRecord(**one) for one in rows(CHECKPOINTS, "line")),
                metrics=_lines(rows(METRICS, "line", "name")),
                artifacts=tuple(ArtifactRecord(**one) for one in rows(ARTIFACTS, "name")),
                edges=tuple(sorted(Edge(**one) for one in rows(LINEAGE))),
            )

    def curve(self, name: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of one metric of a run, in the order recorded."""
        wanted = select(METRICS.c.step, METRICS.c.value).join(RUNS, METRICS.c.run == RUNS.c.id)
        wanted = wanted.where(RUNS.c.folder == self._folder, RUNS.c.name == name, METRICS.c.name == metric)
        with self._database.read() as connection:
            return [(step, value) for step, value in connection.execute(wanted.order_by(METRICS.c.line))]

    def count_metrics(self, name: str) -> int:
        """How many metric values a run has."""
        wanted = select(func.count()).select_from(METRICS).join(RUNS, METRICS.c.run == RUNS.c.id)
        with self._database.read() as connection:
            return connection.execute(wanted.where(RUNS.c.folder == self._folder, RUNS.c.name == name)).scalar_one()

    def edges_into(self, name: str) -> list[Edge]:
        """What other runs of this folder say about a run, its checkpoints and its artifacts."""
        about = or_(
            and_(LINEAGE.c.target_kind == "run", LINEAGE.c.target == name),
            LINEAGE.c.target.startswith(f"{name}/", autoescape=True),
        )
        wanted = select(LINEAGE).join(RUNS, LINEAGE.c.run == RUNS.c.id)
        wanted = wanted.where(RUNS.c.folder == self._folder, RUNS.c.name != name, about)
        with self._database.read() as connection:
            found = [dict(row) for row in connection.execute(wanted).mappings()]
        return sorted(Edge(**{key: value for key, value in row.items() if key != "run"}) for row in found)

    def _named(self, name: str) -> Any:
        return select(RUNS).where(RUNS.c.folder == self._folder, RUNS.c.name == name)

    def _id(self, connection: Connection, name: str) -> int | None:
        wanted = select(RUNS.c.id).where(RUNS.c.folder == self._folder, RUNS.c.name == name)
        return connection.execute(wanted).scalar()

    def _write_run(self, connection: Connection, contents: RunContents) -> int:
        if contents.experiment is not None:
            statement = self._database.upsert(EXPERIMENTS, update=False)
            connection.execute(statement, asdict(contents.experiment))
        run = contents.run
        values: dict[str, object] = {name: getattr(run, name) for name in _RUN_FIELDS}
        values.update(has_loss=run.loss is not None, folder=self._folder, indexed_at=time.time())
        statement = self._database.upsert(RUNS, keys=("folder", "name")).returning(RUNS.c.id)
        return connection.execute(statement, values).scalar_one()

    def _put(self, connection: Connection, table: Table, run: int, records: Sequence[Any]) -> None:
        if records:
            rows = [{"run": run, **{key: getattr(record, key) for key in _FIELDS[table.name]}} for record in records]
            connection.execute(self._database.upsert(table), rows)

    def _put_metrics(self, connection: Connection, run: int, lines: Sequence[MetricLine]) -> None:
        rows = [
            {"run": run, "name": name, "line": line.line, "step": line.step, "value": value}
            for line in lines
            for name, value in line.values.items()
        ]
        if rows:
            connection.execute(self._database.upsert(METRICS), rows)


_RUN_FIELDS = tuple(RunRecord.__dataclass_fields__)
_FIELDS: Mapping[str, Sequence[str]] = {
    STAGES.name: tuple(StageRecord.__dataclass_fields__),
    CHECKPOINTS.name: tuple(CheckpointRecord.__dataclass_fields__),
    ARTIFACTS.name: tuple(ArtifactRecord.__dataclass_fields__),
    LINEAGE.name: tuple(Edge.__dataclass_fields__),
}


def _run(row: Row[Any]) -> RunRecord:
    values: dict[str, Any] = {name: getattr(row, name) for name in _RUN_FIELDS}
    if not row.has_loss:
        values["loss"] = None
    return RunRecord(**values)


def _lines(rows: Sequence[Mapping[str, Any]]) -> tuple[MetricLine, ...]:
    lines: dict[int, MetricLine] = {}
    values: dict[int, dict[str, float]] = {}
    for row in rows:
        number = row["line"]
        values.setdefault(number, {})[row["name"]] = row["value"]
        lines.setdefault(number, MetricLine(line=number, step=row["step"], values=values[number]))
    return tuple(lines.values())
