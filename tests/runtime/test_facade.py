"""A recipe runs from Python by its name, a config and a manifest."""

import asyncio
import json
import signal
import threading
from pathlib import Path

import pytest

import crucible
from crucible.errors import ConfigError, DataError, ManifestError, ResumeError
from crucible.framework import RunResult, Workflow
from crucible.runtime.facade import Prepared
from crucible.telemetry import EVENTS, Event, default_bus

QUICK = {"batch_size": 4, "max_steps": 3, "save_every": 2, "eval_every": 2, "eval_rows": 4}
QUICK_RL = {"group_size": 2, "groups_per_batch": 2, "max_steps": 3, "save_every": 2, "eval_every": 2, "eval_groups": 2}


def quick(run_dir: Path, recipe: str = "sl_basic", **more: object) -> RunResult:
    short = QUICK_RL if "group_size" in crucible.describe(recipe).keys else QUICK
    result = crucible.run(recipe, {**short, **more}, manifest="test", run_dir=run_dir)
    assert isinstance(result, RunResult)
    return result


@pytest.mark.parametrize("recipe", sorted(crucible.recipes()))
def test_every_recipe_runs_on_fakes(recipe: str, tmp_path: Path) -> None:
    result = quick(tmp_path / "run", recipe)
    assert result.results["steps"] == 3 and result.status == "completed"
    assert {"forward_backward", "save_final"} <= set(result.completed_stages)


def test_the_run_folder_holds_what_the_design_says(tmp_path: Path) -> None:
    result = quick(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"experiment.json", "config.json", "events.jsonl", "checkpoints.jsonl", "summary.json"} <= names
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    wanted = {"eval_nll_before", "eval_nll_after", "tokens_per_second", "peak_memory_bytes", "final_checkpoint"}
    assert wanted <= set(summary) and summary["eval_nll_after"] == result.results["eval_nll_after"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["batch_size"] == {"value": 4, "origin": "the caller"} and config["epochs"]["origin"] == "default"


def test_metrics_are_recorded_every_step_and_evaluations_at_theirs(tmp_path: Path) -> None:
    result = quick(tmp_path / "run")
    losses = [row.step for row in result.metrics if "loss" in row.values]
    evaluations = [row.step for row in result.metrics if "eval/nll" in row.values]
    assert losses == [1, 2, 3] and evaluations == [0, 2, 3]


def test_every_event_of_the_seeds_is_emitted(tmp_path: Path) -> None:
    seen: list[Event] = []
    default_bus().attach("test", "*", seen.append)
    try:
        quick(tmp_path / "good")
        with pytest.raises(DataError, match="no such file"):
            crucible.run(
                "sl_basic",
                {**QUICK, "dataset": "missing.jsonl"},
                manifest="test",
                adapters={"dataset_store": "local"},
                run_dir=tmp_path / "bad",
            )
    finally:
        default_bus().detach("test")
    later = {
        "workflow.resume",
        "stage.retry",
        "stage.uncached",
    }  # emitted, and tested, where a run goes on and a stage tries again
    assert set(EVENTS) - later <= {event.name for event in seen}


def test_a_dry_run_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = crucible.run("sl_basic", QUICK, manifest="local", dry_run=True)
    assert isinstance(prepared, Prepared) and prepared.ports["training_client"] == "torch"
    assert list(tmp_path.iterdir()) == []


def test_it_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> RunResult:
        return quick(tmp_path / "run")

    assert asyncio.run(notebook()).results["steps"] == 3


def test_ctrl_c_ends_a_run_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> None:
        interrupt = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
        interrupt.start()
        config, slow = {**QUICK, "max_steps": None, "epochs": 9}, {"noop": {"latency": 0.02}}
        crucible.run("sl_basic", config, manifest="test", options=slow, run_dir=tmp_path / "run")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notebook())
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"


async def test_runs_beside_each_other_keep_their_events_apart(tmp_path: Path) -> None:
    folders = [tmp_path / name / "run" for name in "ab"]
    config = [{**QUICK, "max_steps": steps} for steps in (2, 3)]
    runs = (crucible.arun("sl_basic", c, manifest="test", run_dir=f) for c, f in zip(config, folders, strict=True))
    await asyncio.gather(*runs)
    events = [[json.loads(line)["name"] for line in (f / "events.jsonl").read_text().splitlines()] for f in folders]
    assert [names.count("training.step") for names in events] == [2, 3]
    assert all(names[0] == "workflow.start" and names[-1] == "workflow.stop" for names in events)


def test_a_wrong_adapter_option_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="dtype"):
        crucible.run("sl_basic", {}, options={"torch": {"dtype": "int3"}}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_left_as_it_is(tmp_path: Path) -> None:
    quick(tmp_path / "run")
    before = (tmp_path / "run" / "summary.json").read_bytes()
    with pytest.raises(ConfigError, match="holds a run that is complete"):
        quick(tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_a_run_that_computed_nothing_makes_room_for_the_next(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        quick(tmp_path / "run", limit=2)
    assert quick(tmp_path / "run").status == "completed"


def test_a_run_that_must_be_resumed_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="holds no run to continue"):
        crucible.run("sl_basic", QUICK, manifest="test", run_dir=tmp_path / "run", resume="must")


def test_a_wrong_name_or_manifest_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean sl_basic"):
        crucible.run("sl_basics", {}, run_dir=tmp_path / "run")
    with pytest.raises(ManifestError, match="there is no manifest"):
        crucible.run("sl_basic", {}, manifest="moon", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validate_lists_every_problem_as_a_sentence() -> None:
    problems = crucible.validate("sl_basic", {"batch_size": 0, "epocs": 3})
    assert len(problems) == 2 and any("Did you mean epochs?" in problem for problem in problems)
    assert crucible.validate("sl_basic", {}) == []


def test_an_experiment_runs_again_to_the_same_numbers(tmp_path: Path) -> None:
    first = quick(tmp_path / "a")
    again = crucible.run_spec(crucible.build_spec("sl_basic", QUICK), manifest="test", run_dir=tmp_path / "b")
    assert isinstance(again, RunResult) and again.metrics == first.metrics


def test_a_workflow_of_ones_own_runs_by_itself(tmp_path: Path) -> None:
    workflow = crucible.describe("sl_basic").workflow_at_defaults()
    mine = Workflow("mine", body=workflow.body[:1])
    result = crucible.run(mine, {}, manifest="test", run_dir=tmp_path / "run")
    assert isinstance(result, RunResult) and result.completed_stages == ["load_dataset"]


def test_eval_measures_without_training(tmp_path: Path) -> None:
    result = crucible.eval("sl_basic", {"eval_rows": 4}, manifest="test", run_dir=tmp_path / "run")
    assert isinstance(result, RunResult) and result.results["eval_nll_base"] > 0
    assert "forward_backward" not in result.completed_stages
