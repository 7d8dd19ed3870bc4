"""Nothing is lost at a run folder's edges: hidden files, finished work, a model that changed, a reader that is gone."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest

import crucible
from crucible.__main__ import main
from crucible.errors import Interrupted, ResumeError
from crucible.framework import Durable, Reads, Slot, Stage, StageContext, Stop, Workflow, Writes
from crucible.runtime import run_folder
from crucible.runtime.run_needed import needed_by_journal
from crucible.runtime.signals import stopped_by_signals
from crucible.telemetry import Event, default_bus
from crucible.testing.fakes import FakeTrainingClient

NUMBER = Slot("number", int, Durable("json"))


class Costly(Stage):
    into: Writes[int]
    ran: ClassVar[list[str]] = []

    async def execute(self, ctx: StageContext) -> None:
        self.ran.append(self.name)
        ctx.write(self.into, 42)


class FailsOnce(Stage):
    of: Reads[int]
    ran: ClassVar[list[str]] = []

    async def execute(self, ctx: StageContext) -> None:
        self.ran.append(self.name)
        assert ctx.read(self.of) == 42
        if len(self.ran) == 1:
            raise RuntimeError("the line was lost")


def test_only_our_own_half_written_files_are_swept(tmp_path: Path) -> None:
    weights = tmp_path / "checkpoints" / "weights"
    for folder in (tmp_path / ".git", weights / ".step-000004.k3x9ab_1", weights / "step-000002"):
        folder.mkdir(parents=True)
    for name in (".env", ".gitignore", ".summary.json.17-140", "metrics.jsonl"):
        (tmp_path / name).write_text("")
    (weights / ".link").symlink_to(tmp_path / ".git")
    run_folder.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".git", ".env", ".gitignore", "metrics.jsonl", "checkpoints"}
    assert {path.name for path in weights.iterdir()} == {".link", "step-000002"}


def test_a_run_whose_work_is_in_its_journal_alone_goes_on_instead_of_beginning_anew(tmp_path: Path) -> None:
    Costly.ran.clear()
    FailsOnce.ran.clear()
    workflow = Workflow("w", body=[Costly("costly", into=NUMBER), FailsOnce("fails", of=NUMBER)])
    with pytest.raises(RuntimeError):
        crucible.run(workflow, run_dir=tmp_path / "run", manifest="test")
    crucible.run(workflow, run_dir=tmp_path / "run", manifest="test")
    assert (Costly.ran, FailsOnce.ran) == (["costly"], ["fails", "fails"])


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), SystemExit(3)])
def test_a_stage_that_fails_like_an_ending_command_is_a_failure(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(FakeTrainingClient, "optim_step", broken)
    words = ["max_steps=2", "eval_rows=2", "--manifest", "test", "--run-dir", str(tmp_path / "run")]
    assert main(["run", "sl_basic", *words]) == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_a_stop_is_heard_although_nobody_reads_what_we_say(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stop = Stop()
    with os.fdopen(writer, "w", buffering=1) as nobody:
        monkeypatch.setattr("sys.stderr", nobody)
        with stopped_by_signals(stop):
            os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # so that closing it does not fail again
    assert stop.wanted


def test_a_model_whose_weights_changed_is_refused_and_nothing_is_overwritten(
    tiny_model: Path, other_model: Path, rows: Path, tmp_path: Path
) -> None:
    model, folder = tmp_path / "model", tmp_path / "run"
    shutil.copytree(tiny_model, model)
    stop = Stop()

    def listen(event: Event) -> None:
        if event.measurements["step"] == 5:
            stop.request()

    config = {
        "model": str(model),
        "dataset": str(rows),
        "batch_size": 2,
        "eval_rows": 2,
        "max_steps": 8,
        "lora_rank": 2,
    }
    default_bus().attach("stopping", "training.step", listen)
    with pytest.raises(Interrupted):
        crucible.run("sl_basic", config, run_dir=folder, stop=stop, manifest="local", options={"torch": {"threads": 1}})
    default_bus().detach("stopping")
    before = (folder / "metrics.jsonl").read_bytes()
    shutil.copytree(other_model, model, dirs_exist_ok=True)
    with pytest.raises(ResumeError, match="the model is not the one that the run began with"):
        crucible.resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_damaged_journal_makes_every_checkpoint_one_that_may_be_needed(tmp_path: Path) -> None:
    config = {"batch_size": 4, "eval_rows": 4, "max_steps": 9, "save_every": 3, "limit": 60}
    crucible.run("sl_basic", config, run_dir=tmp_path / "run", manifest="test", adapters={"metrics_store": "jsonl"})
    journal = tmp_path / "run" / "journal.jsonl"
    assert needed_by_journal(tmp_path / "run") == {"weights/step-000009", "weights/final"}
    lines = journal.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b"step-000006" in line)
    journal.write_bytes(b"".join([*lines[:at], lines[at].replace(b"step-000006", b"step-000007"), *lines[at + 1 :]]))
    assert needed_by_journal(tmp_path / "run") is None


@pytest.mark.parametrize("name", ["x" * 300, "rows.jsonl/run"])
def test_a_path_that_cannot_be_a_folder_is_one_sentence(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    assert main(["resume", str(tmp_path / name)]) == 2
    assert capfd.readouterr().err.startswith("error: ")
