"""Training on rows that are read while it goes on."""

import json
from pathlib import Path

import pytest

import crucible
from crucible.adapters.datasets import LocalFilesStore, MemoryStore
from crucible.errors import ConfigError, DataError
from crucible.framework import RunResult
from crucible.ports.dataset_store import DatasetInfo
from crucible.testing.run_noop import run_noop


def row(number: int) -> dict[str, str]:
    return {"question": f"what is {number}?", "answer": str(number)}


def run(store: MemoryStore | LocalFilesStore, **config: object) -> RunResult:
    settings = {"dataset": "mine", "batch_size": 2, "eval_rows": 0, "streaming": True, **config}
    return run_noop(crucible.describe("sl_basic"), settings, ports={"dataset_store": store})


def mine(count: int = 9) -> MemoryStore:
    return MemoryStore({"mine": {"train": [row(number) for number in range(count)]}})


def test_one_pass_trains_every_row_once_and_ends() -> None:
    result = run(mine())
    assert [entry.values["rows"] for entry in result.metrics] == [2, 2, 2, 2, 1]
    assert result.metrics[-1].values["learning_rate"] > 0 and result.results["steps"] == 5


def test_several_passes_go_to_max_steps() -> None:
    result = run(mine(), epochs=3, max_steps=12, pipeline_depth=2)
    assert [entry.values["epoch"] for entry in result.metrics] == [0] * 5 + [1] * 5 + [2] * 2


def test_the_first_rows_are_held_out_and_left_out_of_training() -> None:
    result = run(mine(), eval_rows=4)
    assert result.results["rows"]["heldout"] == 4 and "eval_nll_after" in result.results
    assert sum(entry.values.get("rows", 0) for entry in result.metrics) == 5


def test_the_rows_are_those_of_a_run_without_streaming(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row(number)) + "\n" for number in range(9)))
    streamed, held = (run(LocalFilesStore(), dataset=str(file), streaming=streaming) for streaming in (True, False))
    assert streamed.results["tokens"] == held.results["tokens"] and streamed.results["steps"] == held.results["steps"]


def test_several_passes_without_a_last_step_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"streaming.*max_steps"):
        run(mine(), epochs=2)


def test_a_stream_of_unknown_length_needs_a_last_step() -> None:
    class Endless(MemoryStore):
        def info(self, reference: str) -> DatasetInfo:
            return DatasetInfo(name=reference, splits={"train": None}, columns=())

    store = Endless({"mine": {"train": [row(number) for number in range(9)]}})
    with pytest.raises(DataError, match="max_steps"):
        run(store)
    assert run(store, max_steps=3).results["steps"] == 3


def test_a_stream_that_trains_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="row"):
        run(MemoryStore({"mine": {"train": [{"question": "?"}] * 5}}))
    with pytest.raises(DataError, match="no row"):
        run(mine(3), eval_rows=3)


def test_a_plan_counts_what_the_run_then_does(tmp_path: Path) -> None:
    config = {"streaming": True, "eval_rows": 8, "batch_size": 4}
    planned = crucible.plan("sl_basic", config, manifest="test")
    result = crucible.run("sl_basic", config, manifest="test", run_dir=tmp_path / "run")
    assert isinstance(result, RunResult)
    assert (planned.steps, planned.tokens) == (result.results["steps"], result.results["tokens"])


def test_a_streamed_recipe_is_measured_on_the_same_held_out_rows(tmp_path: Path) -> None:
    config = {"streaming": True, "eval_rows": 8, "batch_size": 4, "max_steps": 3}
    trained = crucible.run("sl_basic", config, manifest="test", run_dir=tmp_path / "run")
    measured = crucible.eval("sl_basic", config, manifest="test", run_dir=tmp_path / "eval")
    assert isinstance(trained, RunResult) and isinstance(measured, RunResult)
    assert measured.results["eval_nll_base"] == trained.results["eval_nll_before"]
