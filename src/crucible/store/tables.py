"""Which tables are there, and of which types are their columns?

Everything hangs on a run's number and goes with it. Times are seconds since 1970. Change `SCHEMA_VERSION` with
any change here: a store of an older version is emptied and filled again from the run folders.
"""

import json
import math
from typing import Any

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.types import BigInteger, TypeDecorator

from crucible.store.schema import Schema

SCHEMA_VERSION = 1


class Plain(TypeDecorator[str]):
    """Text that every database takes: PostgreSQL has no NUL, and neither has lone surrogates."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what cannot be kept."""
        del dialect
        return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class Number(TypeDecorator[float]):
    """A float, NaN and the infinities included. SQLite has no NaN and reads it as NULL, so a NULL is NaN."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """NaN as NULL, in every database."""
        del dialect
        return None if value is None or math.isnan(value) else value

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """NULL as NaN."""
        del dialect
        return math.nan if value is None else value


class Json(TypeDecorator[Any]):
    """JSON in ASCII text: the same bytes in every database, whatever characters are in it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """As text, keys in their order."""
        del dialect
        return json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """As it was."""
        del dialect
        return None if value is None else json.loads(value)


METADATA = MetaData()


def _run() -> Column[int]:
    return Column("run", Integer, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


SCHEMA = Table("crucible_schema", METADATA, Column("version", Integer, primary_key=True))

EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("recipe", Plain, nullable=False),
    Column("workflow", Plain, nullable=False),
    Column("description", Plain, nullable=False),
)

RUNS = Table(
    "runs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("folder", Plain, nullable=False),  # the runs folder: "." where the database lies in it
    Column("name", Plain, nullable=False),
    Column("experiment", Text, ForeignKey("experiments.digest")),
    Column("state", Text, nullable=False),
    Column("recipe", Plain, nullable=False),
    Column("config", Json, nullable=False),
    Column("results", Json, nullable=False),
    Column("started_at", Double),
    Column("seconds", Double, nullable=False),
    Column("step", BigInteger),
    Column("total_steps", BigInteger),
    Column("has_loss", Boolean, nullable=False),
    Column("loss", Number),
    Column("tokens", BigInteger, nullable=False),
    Column("error", Plain, nullable=False),
    Column("warning", Plain, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("indexed_at", Double, nullable=False),
    UniqueConstraint("folder", "name"),
)

STAGES = Table(
    "stages",
    METADATA,
    _run(),
    Column("path", Plain, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("finished", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("longest", Double, nullable=False),
    Column("error", Plain, nullable=False),
)

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    _run(),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("name", Plain, nullable=False),
    Column("step", BigInteger),
    Column("final", Boolean, nullable=False),
    Column("record", Json, nullable=False),
    Column("deleted_at", Plain, nullable=False),
)

METRICS = Table(
    "metrics",
    METADATA,
    _run(),
    Column("name", Plain, primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, nullable=False),
    Column("value", Number),
    # The key's order (run, name, line) is a curve's order: no second index is needed to read one.
    sqlite_with_rowid=False,
)

ARTIFACTS = Table(
    "artifacts",
    METADATA,
    _run(),
    Column("name", Plain, primary_key=True),
    Column("path", Plain, nullable=False),
)

LINEAGE = Table(
    "lineage",
    METADATA,
    _run(),  # the run whose folder says so
    Column("source_kind", Text, primary_key=True),
    Column("source", Plain, primary_key=True),
    Column("relation", Text, primary_key=True),
    Column("target_kind", Text, primary_key=True),
    Column("target", Plain, primary_key=True),
    Index("lineage_by_target", "target_kind", "target"),
)

OF_A_RUN = (STAGES, CHECKPOINTS, METRICS, ARTIFACTS, LINEAGE)
"""The tables whose rows belong to one run each."""

RUN_INDEX = Schema(metadata=METADATA, version_table=SCHEMA, version=SCHEMA_VERSION, refillable=True)
