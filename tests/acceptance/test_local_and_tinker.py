"""One recipe on manifest local and on manifest tinker (the official SDK, HTTP, our server): one curve, and a killed
run goes on without a batch lost or applied twice."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import crucible
from crucible.__main__ import main
from crucible.errors import CheckpointError, ResumeError, UnsupportedError
from crucible.framework import RunResult
from crucible.ports import SamplingClient
from crucible.runtime.exporting import export
from crucible.runtime.facade import build_ports
from crucible.runtime.finished import open_run
from serving import KEY, Serving, running, torch_served

CONFIG = {"batch_size": 4, "epochs": 3, "max_steps": 12, "eval_rows": 4, "lora_rank": 4, "save_every": 4}

KILLED = """
import os, signal, sys
from crucible.__main__ import main
from crucible.telemetry import default_bus

steps = []

def listen(event):
    steps.append(event)
    if len(steps) == 10:
        os.kill(os.getpid(), signal.SIGKILL)

default_bus().attach("kill", "training.step", listen)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Serving]:
    """Our server, of one model under the name that local runs give it."""
    models = {str(tiny_model): tiny_model}
    with torch_served(tmp_path_factory.mktemp("server"), models) as served, running(served) as serving:
        yield serving


@pytest.fixture(autouse=True)
def where(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINKER_BASE_URL", server.url)
    monkeypatch.setenv("TINKER_API_KEY", KEY)


def train(manifest: str, model: Path, rows: Path, run_dir: Path, **more: object) -> RunResult:
    config = {**CONFIG, "model": str(model), "dataset": str(rows), **more}
    options = {"torch": {"threads": 1}} if manifest == "local" else {}
    result = crucible.run("sl_basic", config, manifest=manifest, options=options, run_dir=run_dir)
    assert isinstance(result, RunResult)
    return result


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def assert_same_curve(left: Path, right: Path) -> None:
    curves = [metrics(left), metrics(right)]
    assert [row.keys() for row in curves[0]] == [row.keys() for row in curves[1]] and curves[0]
    for one, two in zip(*curves, strict=True):
        assert one == pytest.approx(two, abs=1e-5, rel=1e-5)


@pytest.fixture(scope="module")
def hosted(server: Serving, tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went straight through on manifest tinker."""
    folder = tmp_path_factory.mktemp("hosted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINKER_BASE_URL", server.url)
        patch.setenv("TINKER_API_KEY", KEY)
        train("tinker", tiny_model, rows, folder)
    return folder


def test_local_and_tinker_give_one_curve(hosted: Path, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    train("local", tiny_model, rows, tmp_path / "run")
    assert_same_curve(tmp_path / "run", hosted)


@pytest.mark.parametrize("depth", [0, 3])
def test_pipelining_depth_changes_no_number(
    depth: int, hosted: Path, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    train("tinker", tiny_model, rows, tmp_path / "run", pipeline_depth=depth)
    assert metrics(tmp_path / "run") == metrics(hosted)


def killed(model: Path, rows: Path, run_dir: Path) -> None:
    """Let `crucible run` die by `kill -9` after its tenth step; it has checkpoints of the steps 4 and 8."""
    words = [f"{key}={value}" for key, value in {**CONFIG, "model": model, "dataset": rows}.items()]
    command = ["run", "sl_basic", *words, "--manifest", "tinker", "--run-dir", str(run_dir)]
    died = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr


def test_a_killed_run_goes_on_where_it_was(hosted: Path, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    killed(tiny_model, rows, tmp_path / "run")
    assert len(metrics(tmp_path / "run")) < len(metrics(hosted))
    crucible.resume(tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(hosted)


def test_a_killed_run_goes_on_at_a_server_that_was_started_anew(
    hosted: Path, tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {str(tiny_model): tiny_model}
    with torch_served(tmp_path / "server", models) as served, running(served) as first:
        monkeypatch.setenv("TINKER_BASE_URL", first.url)
        killed(tiny_model, rows, tmp_path / "run")
    with torch_served(tmp_path / "server", models) as served, running(served) as second:
        monkeypatch.setenv("TINKER_BASE_URL", second.url)
        with pytest.raises(ResumeError, match=r"environment\.service"):
            crucible.resume(tmp_path / "run")
        crucible.resume(tmp_path / "run", allow_change=["environment.service"])
    assert metrics(tmp_path / "run") == metrics(hosted)


def test_no_file_of_a_run_holds_the_key(hosted: Path) -> None:
    assert not [file for file in hosted.rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]


def test_a_checkpoint_is_recorded_by_its_path_at_the_service_and_measures_the_same(
    hosted: Path, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    finished = open_run(hosted)
    assert finished.state_path.startswith("tinker://") and finished.sampler_path.startswith("tinker://")
    measured = crucible.eval(
        "sl_basic",
        dict(finished.config),
        checkpoint=finished.state_path,
        manifest="tinker",
        run_dir=tmp_path / "eval",
    )
    assert isinstance(measured, RunResult)
    last = [row for row in metrics(hosted) if "eval/nll" in row][-1]
    assert measured.results["eval_nll_checkpoint"] == pytest.approx(last["eval/nll"], abs=1e-6)


@pytest.mark.parametrize("lines", [None, 1])
def test_its_weights_answer_in_a_chat_also_of_a_run_that_has_not_finished(
    lines: int | None, hosted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(hosted, tmp_path / "run")
    records = tmp_path / "run" / "checkpoints.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:lines]))
    words = ["chat", str(tmp_path / "run"), "--manifest", "tinker", "--message", "hello", "--max-tokens", "4"]
    assert main(words) == 0
    assert "trained" in capfd.readouterr().out


def test_weights_at_a_service_are_not_exported_and_that_is_said(hosted: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="only weights in a folder of this machine"):
        export(open_run(hosted), tmp_path / "out", format="peft")


def test_what_is_not_kept_is_deleted_at_the_service(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    train("tinker", tiny_model, rows, tmp_path / "run", save_every=2, keep_checkpoints=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "checkpoints.jsonl").read_text().splitlines()]
    ports = build_ports("tinker", run_dir=tmp_path)
    try:
        sampling = ports.port("sampling_client")
        found = [line["step"] for line in lines if is_there(sampling, line["state_path"])]
    finally:
        ports.close()
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12, 12] and found == [
        12,
        12,
    ]  # the last is the final one


def is_there(sampling: SamplingClient, path: str) -> bool:
    try:
        sampling.start_session(model_path=path).result()
    except CheckpointError:
        return False
    return True
