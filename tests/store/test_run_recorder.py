"""The store follows a run, and nothing that befalls the store befalls the run."""

import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_folders import real_run, written_run

from crucible.runtime.run_recorder import RunRecorder
from crucible.runtime.run_store import RunStore, open_index
from crucible.store.records import RunRecord
from crucible.telemetry import Event, default_bus

NEWS = Event("training.step", {}, {}, 0)


def entry(runs_folder: Path, name: str) -> RunRecord | None:
    """What the store holds, without a look at the folder."""
    with open_index(runs_folder) as index:
        found = index.contents(name)
        return found.run if found else None


def recorded(run_dir: Path, recorder: RunRecorder) -> float:
    """Run the fakes with this recorder instead of the run's own; seconds that closing it took."""
    default_bus().attach("recorder", "*", recorder)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("CRUCIBLE_STORE_URL", "none")
            real_run(run_dir)
    finally:
        default_bus().detach("recorder")
    began = time.monotonic()
    recorder.close()
    return time.monotonic() - began


def wait_for(condition: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_a_run_that_goes_on_is_in_the_store_and_so_is_its_end(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "runs" / "a", steps=2)
    recorder = RunRecorder(run_dir, every=0.02)
    recorder(NEWS)
    wait_for(lambda: entry(run_dir.parent, "a") is not None)
    found = entry(run_dir.parent, "a")
    assert found is not None and (found.state, found.step) == ("running", 2)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 0.5}\n')
    recorder(NEWS)
    wait_for(lambda: (now := entry(run_dir.parent, "a")) is not None and now.step == 3)
    (run_dir / "summary.json").write_text('{"status": "completed"}')
    recorder.close()
    recorder.close()
    found = entry(run_dir.parent, "a")
    assert found is not None and (found.state, found.step, found.loss) == ("completed", 3, 0.5)


def test_a_locked_database_costs_one_warning_and_the_next_look_mends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    open_index(runs).close()
    lock = sqlite3.connect(runs / "runs.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    url = f"sqlite:///{runs / 'runs.db'}"
    recorder = RunRecorder(runs / "a", url=url, every=0.01, patience=0.3, retry_after=0.05)
    with caplog.at_level(logging.WARNING, logger="crucible"):
        assert recorded(runs / "a", recorder) < 2
    lock.execute("ROLLBACK")
    lock.close()
    (warning,) = caplog.records
    assert "costs the run nothing" in warning.getMessage() and "locked" in warning.getMessage()
    with RunStore(runs) as store:
        assert store.contents("a").run.state == "completed" and len(store.contents("a").metrics) > 6


def test_a_server_that_is_down_costs_one_warning_without_the_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = "postgresql+psycopg://me:hunter2@127.0.0.1:1/x"
    recorder = RunRecorder(tmp_path / "runs" / "a", url=url, every=0.01, retry_after=0.02)
    with caplog.at_level(logging.WARNING, logger="crucible"):
        recorded(tmp_path / "runs" / "a", recorder)
    (warning,) = caplog.records
    assert "127.0.0.1" in warning.getMessage() and "hunter2" not in warning.getMessage()


def test_a_url_that_is_wrong_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CRUCIBLE_STORE_URL", "mysql://me:hunter2@host/x")
    with caplog.at_level(logging.WARNING, logger="crucible"):
        real_run(tmp_path / "runs" / "a")
    (warning,) = caplog.records
    assert "neither SQLite nor PostgreSQL" in warning.getMessage() and "hunter2" not in warning.getMessage()


def test_a_server_that_never_answers_holds_nothing_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://me@127.0.0.1:{silent.getsockname()[1]}/x"
        recorder = RunRecorder(tmp_path / "runs" / "a", url=url, every=0.01, patience=0.5)
        with caplog.at_level(logging.WARNING, logger="crucible"):
            assert recorded(tmp_path / "runs" / "a", recorder) < 1.5
        assert len(caplog.records) == 1


def test_a_database_that_comes_back_gets_what_was_missed(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "runs" / "a", steps=3)
    blocked = run_dir.parent / "runs.db"
    blocked.mkdir()  # no database can be opened there
    recorder = RunRecorder(run_dir, every=0.01, retry_after=0.02)
    recorder(NEWS)
    time.sleep(0.2)
    blocked.rmdir()
    wait_for(lambda: blocked.is_file() and entry(run_dir.parent, "a") is not None)
    recorder.close()
    with open_index(run_dir.parent) as index:
        assert len(index.curve("a", "loss")) == 3


def test_a_run_outside_a_folder_of_runs_leaves_nothing_beside_it(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path / "first", every=0.01)
    recorded(tmp_path / "first", recorder)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    open_index(tmp_path).close()  # now there is a store
    recorder = RunRecorder(tmp_path / "second", every=0.01)
    recorded(tmp_path / "second", recorder)
    assert entry(tmp_path, "second") is not None


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from run_folders import real_run
from crucible.runtime.run_recorder import RunRecorder
from crucible.runtime.run_store import open_index
from crucible.telemetry import default_bus

run_dir = Path(sys.argv[1])
recorder = RunRecorder(run_dir, every=0.01)

def stored():
    with open_index(run_dir.parent) as index:
        found = index.contents(run_dir.name)
        return found is not None and found.run.step == 4

def at_step_4(event):
    recorder(event)
    if event.measurements["step"] == 4:
        until = time.monotonic() + 30
        while not stored() and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)

default_bus().attach("recorder", "training.step", at_step_4)
real_run(run_dir)
"""


def test_a_run_that_is_killed_is_killed_in_the_store_with_every_row_it_wrote(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "a"
    words = [sys.executable, "-c", KILLED, str(run_dir), str(Path(__file__).parent)]
    assert subprocess.run(words, env=os.environ, check=False).returncode == -signal.SIGKILL
    before = entry(run_dir.parent, "a")
    assert before is not None and before.state == "running"
    with RunStore(run_dir.parent) as store:
        contents = store.contents("a")
    assert contents.run.state == "killed" and contents.run.step == 4
    assert len(contents.metrics) == len((run_dir / "metrics.jsonl").read_text().splitlines())


def test_what_another_process_indexed_meanwhile_from_an_older_view_is_mended_at_the_end(tmp_path: Path) -> None:
    run_dir = written_run(tmp_path / "runs" / "a", steps=2)
    recorder = RunRecorder(run_dir, every=0.01)
    with RunStore(run_dir.parent) as store:
        old = store.contents("a")
        with (run_dir / "metrics.jsonl").open("a") as file:
            file.write('{"step": 3, "loss": 0.5}\n')
        recorder(NEWS)
        wait_for(lambda: len(store.index.curve("a", "loss")) == 3)
        store.index.write(old, whole=True)
        recorder.close()
        assert len(store.index.curve("a", "loss")) == 3
