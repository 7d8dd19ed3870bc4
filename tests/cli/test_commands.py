"""Each command does what its help says; the user's mistakes are one sentence and exit code 2."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crucible.__main__ import main
from crucible.errors import MissingExtraError

QUICK = ["batch_size=4", "max_steps=2", "eval_rows=4"]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def finished(tmp_path: Path, said) -> Path:
    folder = tmp_path / "run"
    code, _ = said("run", "sl_basic", *QUICK, "--manifest", "test", "--run-dir", folder)
    assert code == 0
    return folder


def test_recipes_lists_names_and_what_they_do(said) -> None:
    code, text = said("recipes")
    assert code == 0 and "sl_basic" in text and "chat_sl" in text and "training_client" in text


def test_describe_draws_the_workflow_and_lists_the_keys(said) -> None:
    code, text = said("describe", "sl_basic")
    assert code == 0
    for wanted in ("forward_backward", "settle", "learning_rate", "preset", "seed", "dataset_store"):
        assert wanted in text


def test_describe_draws_mermaid(said) -> None:
    code, text = said("describe", "sl_basic", "--mermaid")
    assert code == 0 and text.startswith(("flowchart", "graph"))


def test_validate_reports_all_problems_at_once(said) -> None:
    code, text = said("validate", "sl_basic", "batch_size=0", "epocs=3")
    assert code == 2 and "batch_size" in text and "Did you mean epochs?" in text and "Traceback" not in text


def test_validate_accepts_a_right_config_and_notes_old_names(said) -> None:
    code, text = said("validate", "sl_basic", "num_epochs=2")
    assert code == 0 and "old name of epochs" in text


def test_plan_counts_before_anything_runs(said) -> None:
    code, text = said("plan", "sl_basic", *QUICK, "--manifest", "test")
    assert code == 0 and "steps" in text and "trained" in text and "checkpoints" in text


def test_a_dry_run_prints_config_ports_and_workflow(said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said("run", "sl_basic", "epochs=2", "--dry-run")
    assert code == 0 and "command line" in text and "torch" in text and "forward_backward" in text
    assert list(tmp_path.iterdir()) == []


def test_a_recipes_name_is_a_command(said, tmp_path: Path) -> None:
    code, text = said("sl_basic", *QUICK, "--manifest", "test", "--run-dir", tmp_path / "run")
    assert code == 0 and "held-out NLL" in text


def test_run_leaves_a_picture_of_the_loss(finished: Path) -> None:
    assert (finished / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (finished / "loss.svg").read_text()


def test_a_config_file_is_read_and_the_command_line_wins(said, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("max_steps = 5\nbatch_size = 4\neval_rows = 4\n")
    folder = tmp_path / "run"
    code, _ = said("run", "sl_basic", "max_steps=2", "-c", file, "-m", "test", "--run-dir", folder)
    config = json.loads((folder / "config.json").read_text())
    assert code == 0
    assert config["max_steps"] == {"value": 2, "origin": "command line"} and config["batch_size"]["origin"] == str(file)


def test_the_config_of_a_run_can_be_run_again(said, finished: Path, tmp_path: Path) -> None:
    code, _ = said("run", "sl_basic", "-c", finished / "config.json", "-m", "test", "--run-dir", tmp_path / "again")
    assert code == 0


def test_chat_answers_one_message(said, finished: Path) -> None:
    code, text = said("chat", finished, "--message", "hello", "--compare", "-m", "test", "--seed", "1")
    assert code == 0 and "trained" in text and "base" in text


def test_eval_measures_a_finished_run(said, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = said("eval", "sl_basic", "eval_rows=4", "-m", "test")
    assert code == 0 and "eval_nll_base" in text


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["run", "sl_basics"], "Did you mean sl_basic?"),
        (["run", "sl_basic", "--manifest", "locl"], "Did you mean local?"),
        (["run", "sl_basic", "epocs=3"], "Did you mean epochs?"),
        (["run", "sl_basic", "batch_size=none"], "batch_size"),
        (["run", "sl_basic", "batch_size"], "key=value"),
        (["run", "sl_basic", "-o", "torch.dtyp=float32"], "Did you mean dtype?"),
        (["run", "sl_basic", "--resume", "maybe", "-m", "test"], "resume"),
        (["run", "sl_basic", "-c", "missing.toml"], "missing.toml"),
        (["validate", "sl_basic", "limit=-1"], "limit: must be at least 1"),
        (["validate", "sl_basic", "learning_rate=inf"], "must be a finite number"),
        (["validate", "sl_basic", "model="], "not an empty text"),
        (["validate", "sl_basic", "renderer=rol_colon"], "Did you mean role_colon?"),
        (["run", "sl_basic", "-m", "test", "-o", "noop.latency=soon"], "noop.latency"),
        (["eval", "sl_basic", "-m", "test", "eval_rows=0"], "nothing to measure"),
        (["run", "sl_basic", "model=no/such/model", "-m", "local", "dataset=rows.jsonl"], "no such model"),
        (["run", "sl_basic", "dataset=missing.jsonl"], "missing.jsonl"),
        (["run", "sl_basic", "dataset=empty.jsonl"], "empty.jsonl"),
        (["run", "sl_basic", "dataset=broken.jsonl"], "broken.jsonl:2"),
        (["run", "sl_basic", "dataset=masked.jsonl", "-m", "test", "-a", "dataset_store=local"], "row(s)"),
        (["chat", "nowhere"], "is no run folder"),
        (["export", "nowhere", "--out", "x"], "is no run folder"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(
    said, words: list[str], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    row = '{"question": "1+1?", "answer": "2"}\n'
    (tmp_path / "rows.jsonl").write_text(row * 40)
    (tmp_path / "broken.jsonl").write_text(row + "{oops\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "masked.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n' * 40)
    code, text = said(*words)
    assert code == 2 and wanted in text and "Traceback" not in text


def test_what_a_person_typed_is_printed_as_it_is(said) -> None:
    code, text = said("run", "sl_basic", "model=[/x]", "dataset=rows:100:more", "--dry-run")
    assert code == 0 and "'[/x]'" in text and "rows:100:more" in text


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    run = f"run sl_basic {' '.join(QUICK)} -m test --run-dir {tmp_path / 'run'} 2>&1"
    script = f"set -o pipefail; {sys.executable} -m crucible {run} | true"
    assert subprocess.run(["bash", "-c", script], check=False).returncode == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"


@pytest.mark.parametrize(("stop", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_run_says_how_it_is_continued(stop: str, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["run", "sl_basic", "epochs=9", "-m", "test", "-o", "noop.latency=0.05", "--run-dir", str(folder)]
    with subprocess.Popen([sys.executable, "-m", "crucible", *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()  # the evaluation before training: the run is on its way
        process.send_signal(signal.Signals[stop])
        said += process.stderr.read()
    assert process.returncode == code and "stopped at " in said and f"records are in {folder}" in said
    assert said.splitlines()[-1] == f"continue with: crucible resume {folder}"
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"


def test_chat_ends_where_the_input_does(finished: Path) -> None:
    words = [sys.executable, "-m", "crucible", "chat", str(finished), "-m", "test"]
    done = subprocess.run(words, input="hello", capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "trained" in done.stdout
    closed = subprocess.run(["bash", "-c", f"{' '.join(words)} <&-"], capture_output=True, text=True, check=False)
    assert closed.returncode == 0, closed.stderr


def test_a_missing_plotting_package_costs_its_picture_alone(
    said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, text = said("run", "sl_basic", *QUICK, "-m", "test", "--run-dir", tmp_path / "run")
    assert code == 0 and "crucible-kitchen[plot]" in text and "training loss" in text


@pytest.mark.parametrize("moved", [False, True])
def test_a_finished_run_opens_from_anywhere(said, moved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert said("run", "sl_basic", *QUICK, "-m", "test", "--run-dir", "run")[0] == 0
    folder = (tmp_path / "run").rename(tmp_path / "elsewhere") if moved else tmp_path / "run"
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    code, text = said("chat", folder, "-m", "test", "--message", "hello")
    assert code == 0 and "trained" in text


def test_a_missing_extra_names_the_install_command() -> None:
    said = str(MissingExtraError.for_extra("data", needed_by="reading parquet", module="pyarrow"))
    assert "pip install 'crucible-kitchen[data]'" in said


def test_help_teaches(said) -> None:
    code, text = said("run", "--help")
    assert code == 0 and "KEY=VALUE" in text and "--manifest" in text and "--dry-run" in text


def test_importing_crucible_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'ray', 'tinker', 'starlette', 'pyarrow', 'matplotlib', 'tokenizers'}"
    code = f"import sys, crucible; loaded = {heavy} & set(sys.modules); sys.exit(repr(loaded) if loaded else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr


def test_resume_says_from_where_and_ends_the_run(said, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = f"""
import crucible
from crucible.errors import Interrupted
from crucible.framework import Stop
from crucible.telemetry import attach
stop = Stop()
attach("stop", "training.step", lambda event: stop.request())
crucible.run("sl_basic", {{"max_steps": 9, "eval_rows": 4}}, manifest="test", run_dir={str(folder)!r}, stop=stop)
"""
    assert (
        "Interrupted: stopped at"
        in subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr
    )
    code, text = said("resume", folder, "--allow-change", "learning_rat")
    assert code == 2 and "Did you mean learning_rate?" in text
    code, text = said("resume", folder)
    assert code == 0 and "continuing from epochs[0] > batches[" in text and "step 9/9" in text


def test_verify_resume_kills_for_real_and_says_what_it_found(said, tmp_path: Path) -> None:
    words = ["max_steps=6", "save_every=2", "limit=40", "eval_rows=2", "-m", "test", "-a", "metrics_store=jsonl"]
    code, text = said("verify-resume", "sl_basic", *words, "--kills", 2, "--folder", tmp_path / "runs")
    assert code == 0 and "kill 2/2" in text and "byte for byte" in text.replace("\n", " ")
    code, text = said("verify-resume", "sl_basic", *words, "--folder", tmp_path / "runs")
    assert code == 2 and "the folder is not empty" in text
