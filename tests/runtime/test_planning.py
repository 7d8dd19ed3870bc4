"""A plan says what a run would do, from the run's own stages."""

import pytest

import crucible
from crucible.errors import DataError
from crucible.framework import RunResult


def test_the_plan_counts_what_the_run_then_does(tmp_path) -> None:
    config = {"batch_size": 4, "eval_rows": 8, "save_every": 10, "epochs": 2}
    planned = crucible.plan("sl_basic", config, manifest="test")
    result = crucible.run("sl_basic", config, manifest="test", run_dir=tmp_path / "run")
    assert isinstance(result, RunResult)
    assert planned.steps == result.results["steps"]
    assert planned.tokens == result.results["tokens"]
    assert planned.trained_tokens == result.results["trained_tokens"]
    assert planned.checkpoints == len(result.checkpoints)


def test_planning_makes_no_run_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    crucible.plan("sl_basic", {}, manifest="test")
    assert list(tmp_path.iterdir()) == []


def test_data_that_trains_nothing_is_found_while_planning(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n' * 4)
    with pytest.raises(DataError):
        crucible.plan(
            "sl_basic",
            {"dataset": "rows.jsonl", "eval_rows": 0},
            manifest="test",
            adapters={"dataset_store": "local"},
        )
