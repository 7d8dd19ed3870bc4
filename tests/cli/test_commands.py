"""Each command does what its help says; the user's mistakes are one sentence and exit code 2."""

import json
import os
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
    assert code == 2 or "trained" in text


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
