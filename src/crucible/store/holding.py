"""How is a database one process's, when two would undo each other's work? By a lock that dies with the process."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager

from crucible.store.database import Database
from crucible.store.failure import StoreError


@contextmanager
def held(database: Database, *, number: int, by: str) -> Generator[None]:
    """Hold the database for the time of the block; readers and other writers are not kept out.

    number: which of the locks that PostgreSQL has. by: who holds it, for the error.

    Raises:
        StoreError: if another process holds it, or the database fails.
    """
    taken = StoreError.of(f"{by} uses this database already", where=database.shown, fix="Stop it, or name another one")
    if not database.is_sqlite:
        with database.alone() as connection:
            if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({number})").scalar():
                raise taken
            try:
                yield
            finally:  # the connection goes back to the pool, and would keep the lock
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({number})")
        return
    assert database.file, "a database in memory is held by its process anyway"
    file = os.open(f"{database.file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise taken from error
        yield
    finally:
        os.close(file)
