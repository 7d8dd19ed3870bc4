"""On the embedded engine: an interrupted run, started under a relative model, is opened from any working folder."""

import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

import crucible
from crucible.__main__ import main
from crucible.runtime.finished import open_run


@pytest.fixture
def interrupted(tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after its first checkpoint; the working folder is another by then."""
    monkeypatch.chdir(tiny_model.parent)
    data = os.path.relpath(rows)
    config = {"model": tiny_model.name, "dataset": data, "max_steps": 2, "save_every": 1, "eval_rows": 0}
    options = {"torch": {"threads": 1}}
    crucible.run("sl_basic", config, manifest="local", options=options, run_dir=tmp_path / "run")
    file = tmp_path / "run" / "checkpoints.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "run"


def test_it_exports_what_it_had_and_shows_nothing_but_its_own_lines(
    interrupted: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "../run", "--format", "peft", "--out", "peft"]) == 0
    assert main(["export", "../run", "--format", "merged", "--out", "merged"]) == 0
    said = capfd.readouterr()
    assert said.err.splitlines() == ["note: this run has not finished; these are its weights after step 1"] * 2
    assert said.out.splitlines() == ["wrote peft weights to peft", "wrote merged weights to merged"]
    exported = load_file("peft/adapter_model.safetensors")
    saved = load_file(Path(open_run(interrupted).state_path) / "adapter.safetensors")
    assert exported.keys() == saved.keys()
    assert all(bool((exported[name] == saved[name]).all()) for name in saved)


def test_it_answers_in_a_chat(interrupted: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["chat", str(interrupted), "--message", "hello", "--max-tokens", "4", "-o", "torch.threads=1"]
    assert main(words) == 0
    assert "trained" in capfd.readouterr().out
