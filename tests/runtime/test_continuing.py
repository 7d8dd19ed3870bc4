"""Is an unfinished run continued as it was started, and only so?"""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import crucible
from crucible.errors import ConfigError, Interrupted, ResumeError
from crucible.framework import RunResult, RunStopped, Stop, read_history
from crucible.runtime.run_lock import is_running, locked
from crucible.telemetry import Event, default_bus

CONFIG: dict[str, Any] = {"batch_size": 4, "eval_rows": 4, "max_steps": 9, "save_every": 4, "limit": 60}
WITH: dict[str, Any] = {"manifest": "test", "adapters": {"metrics_store": "jsonl"}}


def stopped(folder: Path, *, at: int = 5, config: dict[str, Any] | None = None) -> None:
    """Run until a step is reported, then ask to stop."""
    stop = Stop()

    def listen(event: Event) -> None:
        if event.measurements["step"] == at:
            stop.request()

    default_bus().attach("stopping", "training.step", listen)
    try:
        with pytest.raises(Interrupted, match=r"stopped at epochs\[0\] > batches"):
            crucible.run("sl_basic", config or CONFIG, run_dir=folder, stop=stop, **WITH)
    finally:
        default_bus().detach("stopping")


def whole(folder: Path) -> RunResult:
    result = crucible.run("sl_basic", CONFIG, run_dir=folder, **WITH)
    assert isinstance(result, RunResult)
    return result


def bytes_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("metrics.jsonl", "checkpoints.jsonl")]


def test_a_stopped_run_has_a_checkpoint_where_it_stopped_and_goes_on_from_there(tmp_path: Path) -> None:
    straight = whole(tmp_path / "straight" / "run")
    folder = tmp_path / "stopped" / "run"
    stopped(folder)
    point = read_history(folder).last
    assert point.position.frames[-1].iteration >= 5 and point.slots["session"].rolling
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    result = crucible.resume(folder)
    assert isinstance(result, RunResult) and result.metrics == straight.metrics
    assert result.stage_counts == straight.stage_counts and result.checkpoints == straight.checkpoints
    assert bytes_of(folder) == bytes_of(tmp_path / "straight" / "run")
    assert {path.name for path in (folder / "checkpoints" / "weights").iterdir()} == {
        path.name for path in (tmp_path / "straight" / "run" / "checkpoints" / "weights").iterdir()
    }, "the checkpoint that nobody asked for is gone when a later one is there"


def test_the_same_command_again_goes_on_too(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    assert [row.step for row in whole(tmp_path / "run").metrics] == [0, *range(1, 10), 9]


def test_a_changed_config_is_refused_by_key_and_accepted_by_key(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    changed = {**CONFIG, "learning_rate": 1e-3, "save_every": 5}
    with pytest.raises(ResumeError) as caught:
        crucible.run("sl_basic", changed, run_dir=tmp_path / "run", **WITH)
    assert [problem.where for problem in caught.value.problems] == ["learning_rate", "save_every"]
    assert "--allow-change learning_rate" in str(caught.value)
    allowed = ["learning_rate", "save_every"]
    result = crucible.run("sl_basic", changed, run_dir=tmp_path / "run", allow_change=allowed, **WITH)
    assert isinstance(result, RunResult) and result.metrics[-2].values["learning_rate"] == pytest.approx(1e-3 / 9)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["learning_rate"]["value"] == 1e-3


def test_another_backend_or_machine_is_a_change_too(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    file = tmp_path / "run" / "journal.jsonl"
    with pytest.raises(ResumeError, match=r"adapter\.metrics_store: was 'jsonl' .* and is 'noop' now"):
        crucible.run("sl_basic", CONFIG, run_dir=tmp_path / "run", manifest="test")
    from crucible.framework.journal_file import JournalFile

    (start, *_) = [record for record in crucible_records(file) if record["kind"] == "start"]
    JournalFile(file).append({**start, "environment": {**start["environment"], "numpy": "1.0"}}, durable=False)
    with pytest.raises(ResumeError, match=r"environment\.numpy: was '1\.0' when the run began"):
        crucible.resume(tmp_path / "run")
    assert isinstance(crucible.resume(tmp_path / "run", allow_change=["environment.numpy"]), RunResult)


def crucible_records(file: Path) -> list[Any]:
    from crucible.framework import read_records

    return list(read_records(file)[0])


def test_a_key_that_no_run_has_cannot_be_allowed_to_change(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    with pytest.raises(ResumeError, match="Did you mean learning_rate"):
        crucible.resume(tmp_path / "run", allow_change=["learning_rat"])


def test_a_run_is_continued_only_where_that_is_wanted_and_possible(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run"):
        crucible.run("sl_basic", CONFIG, run_dir=tmp_path / "run", resume="never", **WITH)
    crucible.resume(tmp_path / "run")
    with pytest.raises(ResumeError, match="holds a run that is complete"):
        crucible.resume(tmp_path / "run")
    with pytest.raises(ResumeError, match="is no run folder"):
        crucible.resume(tmp_path)
    with pytest.raises(ConfigError, match="resume must be one of"):
        crucible.run("sl_basic", CONFIG, run_dir=tmp_path / "run", resume="maybe", **WITH)


def test_two_processes_never_write_to_one_run(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(ConfigError, match="going on in another process"), locked(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal
from crucible.runtime.run_lock import locked
with locked(pathlib.Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "run.lock").exists() and not is_running(tmp_path)


def test_a_run_with_an_adapter_object_is_continued_with_it_given_again(tmp_path: Path) -> None:
    from crucible.adapters.metrics import JsonlMetricsStore

    with_object = {"manifest": "test", "adapters": {"metrics_store": JsonlMetricsStore(tmp_path / "run")}}
    stop = Stop()
    stop.request()
    with pytest.raises(Interrupted):
        crucible.run("sl_basic", CONFIG, run_dir=tmp_path / "run", stop=stop, **with_object)
    (tmp_path / "run" / "metrics.jsonl").touch()  # so that it counts as a run that has computed something
    with pytest.raises(ResumeError, match="adapter object"):
        crucible.resume(tmp_path / "run")
    again = {"metrics_store": JsonlMetricsStore(tmp_path / "run")}
    assert isinstance(crucible.resume(tmp_path / "run", adapters=again), RunResult)


async def test_arun_is_stopped_from_another_thread(tmp_path: Path) -> None:
    stop = Stop()
    threading.Timer(0.2, stop.request).start()
    options = {"noop": {"latency": 0.02}}
    with pytest.raises(RunStopped):
        await crucible.arun("sl_basic", CONFIG, run_dir=tmp_path / "run", stop=stop, options=options, **WITH)


def test_a_secret_option_is_in_no_file_of_the_run(tmp_path: Path) -> None:
    options = {"openai": {"model": "m", "api_key": "sk-very-secret", "base_url": "http://localhost:1"}}
    adapters = {**WITH["adapters"], "llm_client": "openai"}
    crucible.run("sl_basic", CONFIG, run_dir=tmp_path / "run", manifest="test", adapters=adapters, options=options)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not any(b"sk-very-secret" in path.read_bytes() for path in files)
    assert b"http://localhost:1" in (tmp_path / "run" / "journal.jsonl").read_bytes()


def test_an_experiment_file_that_was_edited_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    file = tmp_path / "run" / "experiment.json"
    file.write_bytes(file.read_bytes().replace(b"0.0002", b"0.0003"))
    with pytest.raises(ResumeError, match=r"experiment\.json is not the one that the run was started with"):
        crucible.resume(tmp_path / "run")


def test_a_run_whose_start_is_not_recorded_is_not_continued_by_guessing(tmp_path: Path) -> None:
    stopped(tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[10:])
    with pytest.raises(ResumeError, match="does not say how it was started"):
        crucible.resume(tmp_path / "run")
