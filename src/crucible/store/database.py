"""How is a database opened so that many processes may write to it at once?

SQLite: write-ahead log, so that readers never wait; a writing transaction takes the write lock as it begins and
waits for it up to `patience` seconds (one that reads first and asks for the lock later is refused at once, however
long it would wait). One short transaction per batch. PostgreSQL: as it comes.
"""

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    StaticPool,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.sql.schema import Table

from crucible.errors import ConfigError, MissingExtraError
from crucible.store.failure import StoreError
from crucible.store.schema import Schema
from crucible.store.tables import RUN_INDEX

_SCHEMA_LOCK = 0x6372_7563  # PostgreSQL's advisory lock while the tables are made: any number that is ours
_DAMAGE = ("not a database", "malformed", "disk image")


class Database:
    """An open database with our tables in it.

    url: `sqlite:///FILE`, `sqlite://` (in memory, for one thread) or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
    schema: which tables; several schemas may share a database. patience: seconds to wait for another writer, for a
    free connection, or for a server. connections: most of them at a time.

    Raises:
        ConfigError: if the URL cannot be read.
        MissingExtraError: if PostgreSQL is asked for and its driver is not installed.
        StoreError: if the database cannot be opened, is damaged, was written by a newer version, or by an older one
            whose tables can be neither dropped nor migrated.
    """

    def __init__(self, url: str, *, schema: Schema = RUN_INDEX, patience: float = 30.0, connections: int = 2) -> None:
        self._schema = schema
        parsed = _parse(url)
        self.shown = _shown(parsed)
        self._secrets = _secrets(parsed)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.file = parsed.database or "" if self.is_sqlite else ""
        pool = {"pool_size": 1, "max_overflow": connections - 1, "pool_timeout": patience}
        if self.is_sqlite:
            # A power loss may cost an index its last rows, no more; what cannot be made again waits for the disk.
            self._engine = _sqlite(parsed, patience, pool, synchronous="NORMAL" if schema.refillable else "FULL")
        else:
            self._engine = _postgresql(parsed, patience, pool)
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Database({self.shown})"

    def close(self) -> None:
        """Close every connection. Safe to call twice, and before more work: that connects again."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that sees one moment of the database.

        Raises:
            StoreError: if the database fails.
        """
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that writes, all of it or, if the block raises, nothing. Keep it short.

        Raises:
            StoreError: if the database fails, or another writer keeps it longer than our patience.
        """
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def alone(self) -> Generator[Connection]:
        """A connection of one's own, outside any transaction, until the block ends.

        Raises:
            StoreError: if the database fails.
        """
        with self._translated(), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def upsert(self, table: Table, *, keys: Sequence[str] = (), update: bool = True) -> Any:
        """An insert that replaces a row of the same key; without `update` it leaves that row as it is.

        keys: the primary key's columns if empty; the number of a row (`id`) is never replaced.
        """
        make: Any = sqlite.insert if self.is_sqlite else postgresql.insert
        statement = make(table)
        keys = keys or [column.name for column in table.primary_key]
        others = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in (*keys, "id")}
        if update and others:
            return statement.on_conflict_do_update(index_elements=keys, set_=others)
        return statement.on_conflict_do_nothing(index_elements=keys)

    def _prepare(self) -> None:
        with self.read() as connection:
            found = self._version(connection)
        ours = self._schema.version
        if found is not None and found > ours:
            raise StoreError.of(
                f"this store was written by a newer version of crucible: its schema is {found}, ours is {ours}",
                where=self.shown,
                fix="Upgrade crucible-kitchen, or name another store",
            )
        if found == ours:
            return
        with self.write() as connection:
            self._lock_schema(connection)
            found = self._version(connection)
            if found == ours:  # somebody was faster
                return
            if found is None:
                self._refuse_foreign_tables(connection)
            if found is None or self._schema.refillable:
                self._schema.metadata.drop_all(connection)
                self._schema.metadata.create_all(connection)
                connection.execute(insert(self._schema.version_table).values(version=ours))
            else:
                self._migrate(connection, found)

    def _migrate(self, connection: Connection, found: int) -> None:
        """From an older version to ours, all the steps or none."""
        steps = range(found, self._schema.version)
        if any(step not in self._schema.migrations for step in steps):
            raise StoreError.of(
                f"this store was written by an older version of crucible: its schema is {found}, ours is "
                f"{self._schema.version}, and there is no way from one to the other",
                where=self.shown,
                fix="Go on with that version of crucible-kitchen, or name another store",
            )
        for step in steps:
            self._schema.migrations[step](connection)
        connection.execute(update(self._schema.version_table).values(version=self._schema.version))

    def _version(self, connection: Connection) -> int | None:
        table = self._schema.version_table
        if not inspect(connection).has_table(table.name):
            return None
        return connection.execute(select(table.c.version)).scalar()

    def _lock_schema(self, connection: Connection) -> None:
        if not self.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")

    def _refuse_foreign_tables(self, connection: Connection) -> None:
        """Another program's tables are neither used nor dropped: MLflow's are called `runs` and `experiments` too."""
        foreign = sorted(self._schema.metadata.tables.keys() & set(inspect(connection).get_table_names()))
        if foreign:
            raise StoreError.of(
                f"this database has tables of another program: {', '.join(foreign)}",
                where=self.shown,
                fix="Name a database of its own for the store",
            )

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            said = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
            for secret in self._secrets:
                said = said.replace(secret, "***")
            if self.is_sqlite and any(sign in said for sign in _DAMAGE):
                raise self._damage(said) from error
            raise StoreError.of(f"the store cannot be used: {said}", where=self.shown) from error

    def _damage(self, said: str) -> StoreError:
        if self._schema.refillable:
            return StoreError.of_damage(f"the store is damaged: {said}", where=self.shown)
        return StoreError.of(f"the store is damaged: {said}", where=self.shown, fix="Put its last backup back")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without the cause: it would show the URL, and with it a password.
        raise ConfigError.of("the store's URL cannot be read", fix="Give sqlite:///FILE or postgresql://...") from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _secrets(url: URL) -> list[str]:
    """Every password in a URL, longest first."""
    queried = [value for key, value in url.query.items() if "password" in key]
    found = [str(url.password or ""), *(value for value in queried if isinstance(value, str))]
    return sorted({secret for secret in found if secret}, key=len, reverse=True)


def _shown(url: URL) -> str:
    hidden = {key: "***" for key in url.query if "password" in key}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def _postgresql(url: URL, patience: float, pool: dict[str, Any]) -> Engine:
    seconds = max(1, round(patience))
    try:
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": seconds}, **pool)
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_extra("postgres", needed_by="a PostgreSQL store", module="psycopg") from error
    except SQLAlchemyError as error:
        raise ConfigError.of(f"the store's URL names no driver that works here: {error}", where=_shown(url)) from error

    def limit(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {seconds * 1000}")
        connection.commit()

    event.listen(engine, "connect", limit)
    return engine


def _sqlite(url: URL, patience: float, pool: dict[str, Any], *, synchronous: str) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    chosen: dict[str, Any] = {"poolclass": StaticPool} if in_memory else pool
    engine = create_engine(url, connect_args={"check_same_thread": False}, **chosen)

    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver would not before a SELECT or DDL
        connection.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        if not in_memory:
            _log_ahead(connection, patience)

    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _log_ahead(connection: Any, patience: float) -> None:
    """Switch to the write-ahead log, which the file remembers. SQLite waits for no one here, so we do."""
    until = time.monotonic() + patience
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return  # a file system that cannot share memory keeps its rollback journal: slower, and right
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
