"""An interrupted run can be talked with and exported: the command says in one line which weights these are."""

from pathlib import Path

import pytest

import crucible
from crucible.__main__ import main


def interrupt(run_dir: Path) -> None:
    """Leave of the run's records what it had before its end."""
    file = run_dir / "checkpoints.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])


def test_chat_answers_from_the_latest_checkpoint(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = {"batch_size": 4, "max_steps": 2, "save_every": 1, "eval_rows": 4}
    crucible.run("sl_basic", config, manifest="test", run_dir=tmp_path / "run")
    interrupt(tmp_path / "run")
    assert main(["chat", str(tmp_path / "run"), "-m", "test", "--message", "hello"]) == 0
    said = capfd.readouterr()
    assert "note: this run has not finished; these are its weights after step 1" in said.err
    assert "trained" in said.out


@pytest.mark.parametrize("word", ["float64", "int8"])
def test_export_offers_the_types_that_it_can_write(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "nowhere", "--dtype", word]) == 2
    said = capfd.readouterr().err
    assert all(name in said for name in ("float32", "bfloat16", "float16"))
