"""Do rows reach W&B (offline), read back with its own reader, and does its machinery stay away from the run?"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from crucible.adapters.metrics import Patience, WandbMetricsStore
from crucible.errors import ManifestError, MissingExtraError

PATIENCE = Patience(gather=0.05, at_close=60)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """W&B's own folders, no account, and no word home."""
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)


def logged(folder: Path) -> list[dict[str, float]]:
    """All rows in a run's offline files, oldest file first, by W&B's own reader (`wandb leet inspect`)."""
    rows: list[dict[str, float]] = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
        rows += [record["history"]["item"] for record in map(json.loads, said.splitlines()) if "history" in record]
    return rows


def test_rows_are_in_the_offline_file_and_a_resumed_run_adds_only_what_is_new(tmp_path, caplog):
    folder = tmp_path / "first"
    store = WandbMetricsStore(folder, mode="offline", patience=PATIENCE)
    for step in (1, 2, 2):
        store.record("first", step, {"loss": 1.0 / step, "eval/nll": 0.5})
    store.close()
    again = WandbMetricsStore(folder, mode="offline", patience=PATIENCE)
    again.truncate("first", 2)
    for step in (2, 3):
        again.record("first", step, {"loss": 1.0 / step, "eval/nll": 0.5})
    again.close()
    rows = logged(folder)
    assert [(row["_step"], row["step"], row["loss"]) for row in rows] == [
        *((0, 1, 1.0), (1, 2, 0.5), (2, 2, 0.5)),
        (3, 3, 1 / 3),
    ]
    assert rows[0]["eval/nll"] == 0.5 and caplog.records == []
    (run_id,) = {path.name.partition("-first-")[2] for path in (folder / "wandb").glob("offline-run-*")}
    assert len(run_id) == 8


PARENT = """
import os, signal, sys
from crucible.adapters.metrics import Patience, WandbMetricsStore
store = WandbMetricsStore(sys.argv[1], mode="offline", patience=Patience(gather=0.05, at_close=60))
hooks = sys.excepthook, signal.getsignal(signal.SIGINT)
for step in range(20):
    store.record("run", step, {"loss": 1.0})
if sys.argv[2] == "close":
    store.close()
    assert hooks == (sys.excepthook, signal.getsignal(signal.SIGINT))
    assert not [name for name in sys.modules if name.partition(".")[0] == "wandb"]
else:
    sent = os.path.join(sys.argv[1], "metrics.wandb.sent")
    while not (os.path.exists(sent) and os.path.getsize(sent)):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(folder: Path, end: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PARENT, str(folder), end]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)


def test_the_runs_process_sees_nothing_of_it_and_the_key_is_in_no_file(tmp_path, monkeypatch):
    key = "5ecre7" * 6 + "5ecr"
    monkeypatch.setenv("WANDB_API_KEY", key)
    done = run(tmp_path / "run", "close")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(logged(tmp_path / "run")) == 20
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4 and not [path for path in files if key.encode() in path.read_bytes()]
    assert key not in repr(vars(WandbMetricsStore(tmp_path / "run")))


def test_what_was_delivered_before_a_kill_is_in_the_file(tmp_path):
    assert run(tmp_path / "run", "kill").returncode == -signal.SIGKILL
    sent = int((tmp_path / "run" / "metrics.wandb.sent").read_text())
    deadline = time.monotonic() + 30
    while children_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not children_in(tmp_path)
    assert [row["_step"] for row in logged(tmp_path / "run")] == list(range(sent)) and sent > 0


def children_in(folder: Path) -> list[psutil.Process]:
    """W&B's processes, which work in the run's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = Path(process.cwd()).is_relative_to(folder) and "pytest" not in process.cmdline()  # forked, not begun
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_a_process_that_hangs_is_given_up_in_bounded_time_and_nothing_is_left(tmp_path, caplog):
    store = WandbMetricsStore(tmp_path / "run", mode="offline", patience=Patience(gather=0.05, at_close=1))
    store.record("run", 0, {"loss": 1.0})
    while not (found := children_in(tmp_path)):
        time.sleep(0.01)
    os.kill(found[0].pid, signal.SIGSTOP)
    began = time.monotonic()
    store.close()
    assert time.monotonic() - began < 5
    assert "wandb: 1 of 1 metric rows were not delivered; all of them are in" in caplog.messages[0]
    psutil.wait_procs(found, timeout=5)
    assert not children_in(tmp_path)


def test_a_process_that_does_not_finish_is_left_to_itself_and_that_is_said(tmp_path, caplog):
    store = WandbMetricsStore(tmp_path / "run", mode="offline", patience=Patience(gather=0.05, at_close=1))
    store.record("run", 0, {"loss": 1.0})
    while not (tmp_path / "run" / "metrics.wandb.sent").exists():
        time.sleep(0.01)
    found = children_in(tmp_path)
    for process in found:
        process.suspend()
    store.close()
    assert "wandb: W&B did not finish in 1 seconds and is left to itself for a minute" in caplog.messages[0]
    for process in found:
        process.resume()
    assert psutil.wait_procs(found, timeout=20)[1] == [] and len(logged(tmp_path / "run")) == 1


def test_a_process_that_fails_is_started_again_and_its_reason_is_told_once(tmp_path, caplog):
    (tmp_path / "run" / "wandb").mkdir(parents=True)
    (tmp_path / "run" / "wandb" / "run-id").write_text("not/an/id")
    store = WandbMetricsStore(tmp_path / "run", mode="offline", patience=PATIENCE)
    store.record("run", 0, {"loss": 1.0})
    deadline = time.monotonic() + 60
    while not caplog.messages and time.monotonic() < deadline:
        time.sleep(0.05)
    (tmp_path / "run" / "wandb" / "run-id").write_text("a-good-id")
    store.close()
    (line,) = caplog.messages
    assert line.startswith("wandb: RuntimeError: ") and "1 metric rows wait" in line
    assert len(logged(tmp_path / "run")) == 1


def test_a_mode_of_another_name_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"wandb\.mode: must be online or offline .given: on."):
        WandbMetricsStore(tmp_path, mode="on")


def test_without_the_library_the_extra_is_named_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'crucible-kitchen\[wandb\]'"):
        WandbMetricsStore(tmp_path)
