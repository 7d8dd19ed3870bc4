"""A batch in several calls is the same step as in one, but for rounding."""

from pathlib import Path

import pytest

import crucible
from crucible.errors import ConfigError
from crucible.framework import RunResult
from crucible.ports.future import Future
from crucible.ports.training_client import ForwardBackwardOutput, TrainingClient
from crucible.testing.fakes import FakeBackend
from crucible.testing.run_noop import run_noop

CONFIG = {"dataset": "talks", "batch_size": 7, "max_steps": 5, "eval_rows": 4}


def run(training: TrainingClient | None = None, **config: object) -> RunResult:
    ports = {} if training is None else {"training_client": training}
    return run_noop(crucible.describe("sl_basic"), {**CONFIG, **config}, ports=ports)


@pytest.mark.parametrize("calls", [2, 3, 7])
@pytest.mark.parametrize("depth", [0, 2])
def test_the_numbers_are_those_of_one_call(calls: int, depth: int) -> None:
    once, often = run(), run(gradient_accumulation_steps=calls, pipeline_depth=depth)
    assert [row.step for row in often.metrics] == [row.step for row in once.metrics]
    for one, other in zip(once.metrics, often.metrics, strict=True):
        assert other.values == pytest.approx(one.values, rel=1e-6)
    assert once.results["eval_nll_after"] == often.results["eval_nll_after"]


def test_on_the_engine_the_loss_is_that_of_one_call_but_for_rounding(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    config = {"model": str(tiny_model), "dataset": str(rows), "batch_size": 6, "eval_rows": 0, "learning_rate": 1e-2}
    losses: list[list[float]] = []
    for calls in (1, 4):
        result = crucible.run(
            "sl_basic",
            {**config, "gradient_accumulation_steps": calls},
            options={"torch": {"threads": 1}},
            run_dir=tmp_path / str(calls),
        )
        assert isinstance(result, RunResult)
        losses.append([row.values["loss"] for row in result.metrics])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0][-1] < losses[0][0]


def test_a_step_is_so_many_calls_and_one_update() -> None:
    backend = FakeBackend()
    training = backend.training_client
    sizes: list[int] = []
    call = training.forward_backward

    def counted(session, datums, **options) -> Future[ForwardBackwardOutput]:
        sizes.append(len(datums))
        return call(session, datums, **options)

    training.forward_backward = counted
    try:
        result = run(training, gradient_accumulation_steps=3, eval_rows=0)
    finally:
        backend.close()
    assert sizes == [2, 2, 3] * 5
    assert all(row.values["rows"] == 7 and row.values["grad_norm"] > 0 for row in result.metrics)


def test_a_plan_says_how_many_calls_a_step_takes() -> None:
    planned = crucible.plan("sl_basic", {"gradient_accumulation_steps": 2}, manifest="test")
    assert planned.calls_per_step == 2


@pytest.mark.parametrize("calls", [0, 8])
def test_more_calls_than_rows_and_none_at_all_are_refused(calls: int) -> None:
    with pytest.raises(ConfigError, match="gradient_accumulation_steps"):
        run(gradient_accumulation_steps=calls)
