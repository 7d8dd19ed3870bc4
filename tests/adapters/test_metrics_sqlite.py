"""What is `SqliteMetricsStore`'s own: the database, several processes, and what a kill leaves."""

import resource
import signal
import sqlite3
import subprocess
import sys

import pytest

from crucible.adapters.metrics import SqliteMetricsStore
from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow

WRITER = """
import sys
from crucible.adapters.metrics import SqliteMetricsStore
store = SqliteMetricsStore(sys.argv[1])
for step in range(100):
    store.record("run", step, {"writer": float(sys.argv[2])})
store.close()
"""


def test_a_row_is_a_row_of_a_table_that_any_program_can_query(tmp_path):
    store = SqliteMetricsStore(tmp_path)
    store.record("run", 1, {"loss": 2.5, "count": 3})
    store.close()
    database = sqlite3.connect(tmp_path / "run" / "metrics.db")
    found = database.execute("SELECT number, step, json_extract(line, '$.loss') FROM rows").fetchall()
    database.close()
    assert found == [(1, 1, 2.5)]


def test_processes_that_write_at_once_lose_no_row(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    store = SqliteMetricsStore(tmp_path)
    rows = store.read("run")
    store.close()
    for number in range(4):
        assert [row.step for row in rows if row.values["writer"] == number] == list(range(100))


def test_a_row_survives_a_kill_right_after_it(tmp_path):
    code = (
        "import os, signal, sys; from crucible.adapters.metrics import SqliteMetricsStore\n"
        "SqliteMetricsStore(sys.argv[1]).record('run', 1, {'a': 1.0}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = SqliteMetricsStore(tmp_path)
    assert store.read("run") == [MetricsRow(step=1, values={"a": 1.0})]
    store.close()


def test_a_full_disk_is_said_and_leaves_nothing_of_the_row(tmp_path):
    store = SqliteMetricsStore(tmp_path)
    store.record("run", 1, {"a": 1.0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "run" / "metrics.db-wal").stat().st_size, limits[1]))
    try:
        with pytest.raises(PortError, match=r"metrics\.db: the row of step 2 was not recorded"):
            store.record("run", 2, {"a": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    store.record("run", 3, {"a": 3.0})
    assert [row.step for row in store.read("run")] == [1, 3]
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.db").write_text("no database, but long enough to look like one" * 40)
    with pytest.raises(PortError, match=r"metrics\.db: the rows could not be read: file is not a database"):
        SqliteMetricsStore(tmp_path).read("run")


def test_a_damaged_row_is_named(tmp_path):
    store = SqliteMetricsStore(tmp_path)
    store.record("run", 1, {"a": 1.0})
    database = sqlite3.connect(tmp_path / "run" / "metrics.db")
    with database:
        database.execute("UPDATE rows SET line = '{'")
    database.close()
    with pytest.raises(PortError, match="row 1 is damaged"):
        store.read("run")
    store.close()


def test_reading_a_run_that_is_not_there_makes_no_file(tmp_path):
    assert SqliteMetricsStore(tmp_path).read("run") == [] and list(tmp_path.iterdir()) == []
