"""sl_basic on the embedded engine, over a tiny model: it learns, repeats to the byte, and exports what it trained."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from scoring import score_outside

import crucible
from crucible.errors import CheckpointError
from crucible.framework import RunResult
from crucible.runtime.exporting import export
from crucible.runtime.facade import build_ports
from crucible.runtime.finished import open_run

OPTIONS = {"torch": {"threads": 1}}


def train(model: Path, rows: Path, run_dir: Path, **more: object) -> RunResult:
    config = {
        "model": str(model),
        "dataset": str(rows),
        "batch_size": 4,
        "epochs": 3,
        "learning_rate": 2e-2,
        "eval_rows": 8,
        "lora_rank": 8,
        "save_every": 10,
        **more,
    }
    result = crucible.run("sl_basic", config, manifest="local", options=OPTIONS, run_dir=run_dir)
    assert isinstance(result, RunResult)
    return result


def fingerprint(run_dir: Path) -> dict[str, str]:
    files = [run_dir / "metrics.jsonl", *sorted((run_dir / "checkpoints").rglob("*.safetensors"))]
    return {str(file.relative_to(run_dir)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="session")
def first(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return train(tiny_model, rows, tmp_path_factory.mktemp("runs") / "first")


def test_the_held_out_loss_falls_clearly(first: RunResult) -> None:
    assert first.results["eval_nll_after"] < 0.8 * first.results["eval_nll_before"]


def test_the_same_seed_gives_the_same_bytes(first: RunResult, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    assert first.run_dir is not None
    train(tiny_model, rows, tmp_path / "again")
    again = fingerprint(tmp_path / "again")
    assert again == fingerprint(first.run_dir) and len(again) > 3


@pytest.mark.parametrize("depth", [0, 3])
def test_pipelining_depth_changes_no_byte(
    depth: int, first: RunResult, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    assert first.run_dir is not None
    train(tiny_model, rows, tmp_path / "run", pipeline_depth=depth)
    assert fingerprint(tmp_path / "run") == fingerprint(first.run_dir)


def test_another_seed_gives_other_bytes(first: RunResult, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    assert first.run_dir is not None
    train(tiny_model, rows, tmp_path / "run", seed=1)
    assert fingerprint(tmp_path / "run") != fingerprint(first.run_dir)


def test_checkpoints_are_recorded_at_their_steps(first: RunResult) -> None:
    assert first.run_dir is not None
    lines = [json.loads(line) for line in (first.run_dir / "checkpoints.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 24] and lines[-1]["final"] is True
    assert all((first.run_dir / line["state_path"]).is_dir() for line in lines)


def test_eval_of_a_runs_checkpoint_gives_its_last_figure(
    first: RunResult, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    assert first.run_dir is not None
    finished = open_run(first.run_dir)
    measured = crucible.eval(
        "sl_basic",
        dict(finished.config),
        checkpoint=finished.state_path,
        manifest="local",
        options=OPTIONS,
        run_dir=tmp_path / "eval",
    )
    assert isinstance(measured, RunResult)
    assert measured.results["eval_nll_checkpoint"] == pytest.approx(first.results["eval_nll_after"], abs=1e-6)


def test_a_checkpoint_of_another_model_is_refused(first: RunResult, other_model: Path, tmp_path: Path) -> None:
    assert first.run_dir is not None
    sampling = build_ports("local", options=OPTIONS, run_dir=tmp_path)
    try:
        client = sampling.port("sampling_client")
        with pytest.raises(CheckpointError, match="another base model"):
            client.start_session(base_model=str(other_model), model_path=open_run(first.run_dir).sampler_path).result()
    finally:
        sampling.close()


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_exports_score_as_the_engine_does_in_a_program_without_crucible(
    form: str, first: RunResult, tiny_model: Path, tmp_path: Path
) -> None:
    assert first.run_dir is not None
    folder = export(open_run(first.run_dir), tmp_path / "out", format=form)
    scored = score_outside(form, folder, tiny_model, first, tmp_path)
    assert scored["nll"] == pytest.approx(first.results["eval_nll_after"], abs=1e-3)


_WITHOUT = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


MISSING = sys.argv[1]
sys.meta_path.insert(0, Blocker())
from crucible.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("missing", "extra"), [("torch", "torch"), ("transformers", "torch"), ("tokenizers", "torch")])
def test_a_missing_extra_is_one_sentence_with_the_install_command(
    missing: str, extra: str, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    words = ["run", "sl_basic", f"model={tiny_model}", f"dataset={rows}", "eval_rows=4", "max_steps=1"]
    program = [sys.executable, "-c", _WITHOUT, missing, *words, "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2 and "Traceback" not in said
    assert f"pip install 'crucible-kitchen[{extra}]'" in said
