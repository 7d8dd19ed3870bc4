"""Which checkpoints a run writes, and which of them stay."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import crucible
from crucible.errors import ConfigError
from crucible.framework import RunResult, RunStopped, Stop, lift
from crucible.kitchen.config import Layer
from crucible.kitchen.stages import STAGES
from crucible.ports.future import Future
from crucible.ports.training_client import AdamParams, OptimStepOutput, TrainingSession
from crucible.telemetry import Event, default_bus
from crucible.testing.fakes import FakeBackend

CONFIG: Mapping[str, object] = {"batch_size": 4, "eval_rows": 4, "max_steps": 12, "save_every": 2}


def run(folder: Path, *, stop: Stop | None = None, **config: object) -> RunResult:
    result = crucible.run(
        "sl_basic",
        {**CONFIG, **config},
        manifest="test",
        adapters={"metrics_store": "jsonl"},
        run_dir=folder,
        stop=stop,
    )
    assert isinstance(result, RunResult)
    return result


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints" / "weights").iterdir())


def lines(folder: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (folder / "checkpoints.jsonl").read_text().splitlines()]


def test_the_newest_stay_and_the_final_one(tmp_path: Path) -> None:
    run(tmp_path / "run", keep_checkpoints=2)
    assert left(tmp_path / "run") == ["final", "step-000010", "step-000012"]
    assert len(lines(tmp_path / "run")) == 7


def test_the_best_by_a_metric_stay(tmp_path: Path) -> None:
    run(tmp_path / "low", keep_best=3, best_metric="loss")
    run(tmp_path / "high", keep_best=3, best_metric="loss", best_is="highest")
    rows = map(json.loads, (tmp_path / "low" / "metrics.jsonl").read_text().splitlines())
    losses = {f"step-{row['step']:06d}": row["loss"] for row in rows if row.get("loss") and row["step"] % 2 == 0}
    ranked = sorted(losses, key=lambda name: losses[name])
    needed = {"final", "step-000012"}  # the two newest stay in any case
    assert set(left(tmp_path / "low")) == {*ranked[:3], *needed}
    assert set(left(tmp_path / "high")) == {*ranked[-3:], *needed}


def test_a_metric_that_no_step_has_ends_the_run_before_a_checkpoint_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"save_checkpoint.*metric that step 2 does not have.*'?los'?.*loss") as found:
        run(tmp_path / "run", keep_best=1, best_metric="los")
    assert "pipeline" not in str(found.value)
    assert left(tmp_path / "run")[:1] == ["step-000002"]


def test_the_best_by_evaluation_are_told_by_the_evaluation_at_their_step(tmp_path: Path) -> None:
    run(tmp_path / "run", keep_best=1, eval_every=2)
    assert len(left(tmp_path / "run")) <= 3 and len(lines(tmp_path / "run")) == 7


@pytest.mark.parametrize("depth", [0, 3])
def test_by_tokens_the_same_steps_are_saved_at_every_depth(tmp_path: Path, depth: int) -> None:
    config = {"save_every": 0, "save_every_tokens": 1000, "keep_checkpoints": 2}
    run(tmp_path / "one", **config)
    run(tmp_path / "run", **config, pipeline_depth=depth)
    found = [(tmp_path / name / "checkpoints.jsonl").read_bytes() for name in ("one", "run")]
    assert found[0] == found[1] and left(tmp_path / "one") == left(tmp_path / "run")
    steps, tokens = map(json.loads, (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()), 0
    due: list[str] = []
    for row in (row for row in steps if "tokens" in row):
        tokens, before = tokens + row["tokens"], tokens
        due += [f"step-{row['step']:06d}"] if int(tokens // 1000) > int(before // 1000) else []
    assert lines(tmp_path / "one") == [*due, "final"] and len(due) > 2


def test_steps_and_tokens_together_save_a_step_once(tmp_path: Path) -> None:
    run(tmp_path / "run", save_every=1, save_every_tokens=1)
    assert len(lines(tmp_path / "run")) == 13


def test_by_time_there_is_no_line_and_two_at_a_time_from_which_a_failed_run_goes_on(tmp_path: Path) -> None:
    backend, calls = FakeBackend(checkpoint_dir=tmp_path / "run" / "checkpoints"), 0
    training, step = backend.training_client, backend.training_client.optim_step

    def failing(session: TrainingSession, params: AdamParams) -> Future[OptimStepOutput]:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise OSError("the power is gone")
        return step(session, params)

    training.optim_step = failing
    config = {**CONFIG, "save_every": 0, "save_every_seconds": 1e-9, "eval_rows": 0}
    adapters = {"metrics_store": "jsonl", "training_client": training, "sampling_client": backend.sampling_client}
    with pytest.raises(OSError, match="power"):
        crucible.run("sl_basic", config, manifest="test", adapters=adapters, run_dir=tmp_path / "run")
    assert len(left(tmp_path / "run")) <= 3  # the last two, and the one that was being written
    assert not (tmp_path / "run" / "checkpoints.jsonl").exists()

    again = FakeBackend(checkpoint_dir=tmp_path / "run" / "checkpoints")
    adapters |= {"training_client": again.training_client, "sampling_client": again.sampling_client}
    resumed: list[Event] = []
    default_bus().attach("looker", "workflow.resume", resumed.append)
    crucible.resume(tmp_path / "run", adapters=adapters)
    default_bus().detach("looker")
    assert resumed[0].metadata["position"] in ("epochs[0] > batches[5]", "epochs[0] > batches[6]")
    assert left(tmp_path / "run") == ["final"] and lines(tmp_path / "run") == ["final"]


def test_a_stopped_run_ends_with_the_same_checkpoints(tmp_path: Path) -> None:
    config = {"keep_checkpoints": 1, "keep_best": 2, "best_metric": "loss", "pipeline_depth": 2}
    run(tmp_path / "straight", **config)
    stop = Stop()
    default_bus().attach("stopper", "training.step", lambda event: event.measurements["step"] == 5 and stop.request())
    with pytest.raises((RunStopped, KeyboardInterrupt)):
        run(tmp_path / "run", stop=stop, **config)
    default_bus().detach("stopper")
    crucible.resume(tmp_path / "run")
    assert left(tmp_path / "run") == left(tmp_path / "straight")
    found = [(tmp_path / name / "checkpoints.jsonl").read_bytes() for name in ("straight", "run")]
    assert found[0] == found[1]


@pytest.mark.parametrize(("given", "seconds"), [("90", 90), ("45m", 2700), ("1.5h", 5400), ("7d", 604800)])
def test_the_line_says_when_a_checkpoint_may_go(tmp_path: Path, given: str, seconds: float) -> None:
    result = run(tmp_path / "run", checkpoint_ttl=given, save_every=6)
    assert [line.get("ttl_seconds") for line in result.checkpoints] == [seconds, seconds, None]


def test_without_a_policy_the_lines_say_nothing_of_one(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    assert all(not {"keep", "ttl_seconds"} & line.keys() for line in result.checkpoints)
    assert len(left(tmp_path / "run")) == 7


def test_a_plan_says_how_many_are_saved_and_how_many_stay() -> None:
    planned = crucible.plan("sl_basic", {**CONFIG, "keep_checkpoints": 3}, manifest="test")
    assert (planned.checkpoints, planned.checkpoints_kept) == (7, 4)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"checkpoint_ttl": "soon"}, "checkpoint_ttl"),
        ({"keep_best": 1}, "keep_best"),
        ({"keep_best": 1, "eval_every": 4}, "eval_every"),
        ({"keep_checkpoints": 1, "save_every": 0}, "save_every"),
        ({"keep_checkpoints": -1}, "keep_checkpoints"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(tmp_path: Path, config: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        run(tmp_path / "run", **config)


def test_a_policy_goes_into_a_file_and_out_again() -> None:
    config = {**CONFIG, "save_every_tokens": 99, "save_every_seconds": 9.0, "keep_checkpoints": 2, "streaming": True}
    recipe, spec = crucible.describe("sl_basic"), crucible.build_spec("sl_basic", config)
    workflow = recipe.workflow(recipe.configure(Layer(origin="test", values=config)).value)
    assert lift(spec, {stage.__name__: stage for stage in STAGES}) == workflow
