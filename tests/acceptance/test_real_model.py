"""The same on SmolLM2-135M and GSM8K: what the demo does, in small. Needs the packaged model (slow tier)."""

from pathlib import Path

import numpy as np
import pytest
from scoring import heldout_of, score_outside

import crucible
from crucible.adapters.assets import resolve_model
from crucible.framework import RunResult
from crucible.kitchen.stages.evaluating import in_order
from crucible.ports import TrainingClient
from crucible.ports.training_client import SessionConfig
from crucible.runtime.exporting import export
from crucible.runtime.facade import build_ports
from crucible.runtime.finished import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    config = {"limit": 60, "eval_rows": 4, "batch_size": 2, "max_steps": 8, "max_length": 200, "learning_rate": 1e-3}
    folder = tmp_path_factory.mktemp("runs") / "real"
    result = crucible.run("sl_basic", config, options={"torch": {"threads": 2}}, run_dir=folder)
    assert isinstance(result, RunResult)
    return result


def test_it_learns(run: RunResult) -> None:
    assert run.results["eval_nll_after"] < run.results["eval_nll_before"] - 0.1


def test_it_shows_a_sample_before_and_after(run: RunResult) -> None:
    assert run.results["sample_before"]["answer"] != run.results["sample_after"]["answer"]


@pytest.mark.parametrize("form", ["peft", "merged"])
def test_the_exports_score_as_the_engine_does(form: str, run: RunResult, tmp_path: Path) -> None:
    assert run.run_dir is not None
    folder = export(open_run(run.run_dir), tmp_path / "out", format=form)
    scored = score_outside(form, folder, resolve_model("smollm2-135m"), run, tmp_path)
    assert scored["nll"] == pytest.approx(run.results["eval_nll_after"], abs=1e-3)


def test_the_engines_logprobs_are_those_of_a_plain_forward(run: RunResult, tmp_path: Path) -> None:
    base = resolve_model("smollm2-135m")
    plain = score_outside("merged", base, base, run, tmp_path)["logprobs"]
    wiring = build_ports("local", options={"torch": {"threads": 2}}, run_dir=tmp_path)
    try:
        client = wiring.port("training_client")
        assert isinstance(client, TrainingClient)
        session = client.start_session(SessionConfig(model="smollm2-135m", lora_rank=1)).result()
        heldout = heldout_of(run)
        datums = [datum for batch in in_order(heldout) for datum in heldout.render(batch).datums]
        outputs = client.forward(session, datums).result().loss_fn_outputs
    finally:
        wiring.close()
    for output, expected in zip(outputs, plain, strict=True):
        np.testing.assert_allclose(output["logprobs"].data, expected, atol=1e-4)
