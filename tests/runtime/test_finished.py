"""A run folder is opened again; of an interrupted run, at its latest checkpoint."""

import json
from pathlib import Path

import pytest

import crucible
from crucible.errors import CheckpointError
from crucible.runtime.finished import open_run

QUICK = {"batch_size": 4, "max_steps": 3, "save_every": 1, "eval_rows": 4}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    crucible.run("sl_basic", QUICK, manifest="test", run_dir=tmp_path / "run")
    return tmp_path / "run"


def keep_records(run_dir: Path, count: int) -> list[dict[str, object]]:
    """As if the run had been interrupted after its first checkpoints."""
    file = run_dir / "checkpoints.jsonl"
    lines = file.read_text().splitlines(keepends=True)[:count]
    file.write_text("".join(lines))
    return [json.loads(line) for line in lines]


def test_a_run_that_ended_gives_its_final_weights_without_a_word(run_dir: Path) -> None:
    run = open_run(run_dir)
    assert run.sampler_path.endswith("final-sampler") and run.weights_note == ""


def test_an_interrupted_run_gives_its_latest_checkpoint_and_says_so(run_dir: Path) -> None:
    *_, latest = keep_records(run_dir, 2)
    run = open_run(run_dir)
    assert run.sampler_path == str(run_dir / str(latest["state_path"]))
    assert run.weights_note == "this run has not finished; these are its weights after step 2"


def test_a_run_that_saved_nothing_says_what_to_do(run_dir: Path) -> None:
    keep_records(run_dir, 0)
    with pytest.raises(CheckpointError, match=r"saved no weights.*set save_every"):
        _ = open_run(run_dir).sampler_path
