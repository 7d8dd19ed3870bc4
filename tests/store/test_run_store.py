"""The store says what the folders say, whatever happened to either."""

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from run_folders import DAMAGED_FILES, real_run, written_run

from crucible.errors import ConfigError
from crucible.runtime.run_lock import locked
from crucible.runtime.run_recorder import RunRecorder
from crucible.runtime.run_store import RunStore, locate, reindex
from crucible.store.failure import StoreError
from crucible.telemetry import default_bus


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with two runs written by hand, and one thing that is no run."""
    folder = tmp_path / "runs"
    written_run(folder / "a", steps=4, status="completed", saves=(2, 4), final=True)
    written_run(folder / "b", steps=2)
    (folder / "notes").mkdir()
    return folder


@pytest.fixture
def store(runs: Path, url: str) -> Iterator[RunStore]:
    with RunStore(runs, url=url) as opened:
        yield opened


def states(store: RunStore) -> dict[str, str]:
    return {run.name: run.state for run in store.runs()}


def test_a_folder_without_a_store_is_listed_at_once(store: RunStore) -> None:
    assert states(store) == {"a": "completed", "b": "killed"}
    assert [run.step for run in store.runs(state="completed")] == [4]


def test_what_changed_is_noticed_what_is_new_found_and_what_is_gone_forgotten(store: RunStore) -> None:
    store.refresh()
    (store.folder / "b" / "summary.json").write_text('{"status": "failed", "error": "no"}')
    written_run(store.folder / "c")
    shutil.rmtree(store.folder / "a")
    assert states(store) == {"b": "failed", "c": "killed"}


def test_a_run_is_running_while_a_process_holds_it_and_killed_when_that_is_gone(store: RunStore) -> None:
    with locked(store.folder / "b"):
        assert states(store) == {"a": "completed", "b": "running"}
    assert states(store) == {"a": "completed", "b": "killed"}


def test_an_unchanged_folder_is_not_read_again(store: RunStore) -> None:
    store.refresh()
    before = store.index.known()
    assert store.refresh().warnings == () and store.index.known() == before


def test_reindexing_makes_the_same_store_again(store: RunStore, url: str) -> None:
    kept = {name: store.contents(name) for name in store.names()}
    store.index.forget(kept)
    assert reindex(store.folder, url).runs == 2
    assert {name: store.index.contents(name) for name in kept} == kept


def test_reindexing_equals_what_was_recorded_live(tmp_path: Path, url: str) -> None:
    run_dir = tmp_path / "runs" / "a"
    recorder = RunRecorder(run_dir, url=url, every=0.01)
    default_bus().attach("recorder", "*", recorder)
    try:
        real_run(run_dir)
    finally:
        default_bus().detach("recorder")
        recorder.close()
    with RunStore(run_dir.parent, url=url) as store:
        live = store.index.contents("a")
        assert live is not None and live.run.state == "completed" and len(live.metrics) > 6
        reindex(run_dir.parent, url)
        assert store.index.contents("a") == live


def test_a_damaged_folder_costs_one_warning_with_its_path_and_nothing_else(
    store: RunStore, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = written_run(store.folder / "broken", steps=3)
    for name in ("experiment.json", "summary.json", "config.json"):
        (damaged / name).write_bytes(b"\x00\xff{" * 50)
    for name in ("metrics.jsonl", "events.jsonl", "checkpoints.jsonl"):
        with (damaged / name).open("ab") as file:
            file.write(b"\xff\x00\n{}\n[]\n")
    with caplog.at_level(logging.WARNING, logger="crucible"):
        found = reindex(store.folder, url)
    (warning,) = found.warnings
    assert found.runs == 3 and str(damaged) in warning and [r.getMessage() for r in caplog.records] == [warning]
    assert len(store.contents("broken").metrics) == 3


def test_texts_that_a_database_cannot_keep_do_not_stop_it(store: RunStore, url: str) -> None:
    odd = written_run(store.folder / "odd")
    text = "nul \0, " + "x" * 5000
    metric = {"step": 2**63, "loss": 1}
    (odd / "metrics.jsonl").write_text(json.dumps(metric) + "\n" + json.dumps({"step": 1, text: 1, "a\0": 2}) + "\n")
    (odd / "config.json").write_text(json.dumps({text: {"value": text, "origin": text}}))
    (odd / "summary.json").write_text(
        json.dumps({"status": "failed", "error": text, "artifacts": {text: text}, text: text})
    )
    (odd / "checkpoints.jsonl").write_text(json.dumps({"name": text, "step": 2**70, "state_path": text}) + "\n")
    assert reindex(store.folder, url).runs == 3
    assert store.contents("odd").run.error.startswith("nul \ufffd")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=DAMAGED_FILES)
def test_no_folder_however_damaged_stops_a_reindexing(store: RunStore, files: dict[str, bytes]) -> None:
    damaged = store.folder / "c"
    damaged.mkdir(exist_ok=True)
    for path in damaged.iterdir():
        path.unlink()
    for name, data in {"metrics.jsonl": b"", **files}.items():
        (damaged / name).write_bytes(data)
    assert store.refresh(everything=True).runs == 3
    assert {"a", "b", "c"} == store.index.known().keys() and len(store.index.curve("a", "loss")) == 4


def test_a_folder_whose_name_is_no_text_is_passed_over_with_a_warning(store: RunStore) -> None:
    written_run(store.folder / "c").rename(store.folder / "c\udcff")
    (warning,) = store.refresh().warnings
    assert "rename it" in warning and states(store) == {"a": "completed", "b": "killed"}


def test_a_damaged_database_is_put_aside_and_made_again(runs: Path) -> None:
    with RunStore(runs) as store:
        store.refresh()
    (runs / "runs.db").write_bytes(b"not a database, for long enough to be looked at" * 200)
    with pytest.raises(StoreError, match="crucible runs reindex"):
        RunStore(runs)
    assert reindex(runs).runs == 2 and (runs / "runs.db.damaged").is_file()
    with RunStore(runs) as store:
        assert len(store.runs()) == 2


def test_the_store_moves_with_its_folder(runs: Path) -> None:
    with RunStore(runs) as store:
        store.refresh()
        before = store.index.known()
    moved = runs.rename(runs.with_name("elsewhere"))
    with RunStore(moved) as store:
        assert store.index.known() == before and {run.name for run in store.runs()} == {"a", "b"}


def test_the_default_store_is_a_file_with_a_write_ahead_log(runs: Path) -> None:
    with RunStore(runs) as store:
        store.refresh()
    connection = sqlite3.connect(runs / "runs.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_no_store_is_left_where_none_is_wanted(runs: Path) -> None:
    with RunStore(runs, url="none") as store:
        assert len(store.runs()) == 2
    assert not (runs / "runs.db").exists()


def test_a_run_is_found_by_the_beginning_of_its_id(store: RunStore) -> None:
    written_run(store.folder / "sl_basic-1")
    written_run(store.folder / "sl_basic-2")
    assert store.find("a") == "a" and store.find("sl_basic-1") == "sl_basic-1"
    with pytest.raises(ConfigError, match=r"2 runs begin like this.*sl_basic-1, sl_basic-2"):
        store.find("sl")
    with pytest.raises(ConfigError, match=r"Did you mean sl_basic-2\?"):
        store.find("sl_basci-2")


def test_a_run_elsewhere_is_read_by_its_path_and_leaves_nothing_there(tmp_path: Path, runs: Path) -> None:
    elsewhere = written_run(tmp_path / "other" / "x", steps=1)
    store, name = locate(str(elsewhere), runs)
    with store:
        assert name == "x" and store.contents(name).run.step == 1
    assert sorted(path.name for path in elsewhere.parent.iterdir()) == ["x"]
    for reference in (str(runs / "a"), "a"):
        store, name = locate(reference, runs)
        store.close()
        assert (store.folder, name) == (runs, "a")


def test_nothing_imports_sqlalchemy_before_a_store_is_opened() -> None:
    modules = "crucible, crucible.cli.app, crucible.cli.runs, crucible.runtime.run_recorder, crucible.runtime.run_store"
    code = f"import sys, {modules}; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_folder_of_runs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder of runs"):
        RunStore(tmp_path / "runs")
