"""The supervised workflow on fakes: what is dropped is counted, and nothing is made up."""

from collections.abc import Mapping

import pytest

import crucible
from crucible.adapters.datasets import MemoryStore
from crucible.errors import DataError
from crucible.framework import RunResult
from crucible.kitchen.recipe import Recipe
from crucible.ports import DatasetStore
from crucible.testing.run_noop import run_noop

GOOD = {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]}
MASKED = {"messages": [{"role": "user", "content": "1+1?"}]}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return crucible.describe("sl_basic")


def run(recipe: Recipe, rows: list[Mapping[str, object]], **config: object) -> RunResult:
    store: DatasetStore = MemoryStore({"mine": {"train": rows}})
    settings = {"dataset": "mine", "eval_rows": 0, "batch_size": 1, **config}
    return run_noop(recipe, settings, ports={"dataset_store": store})


def test_a_batch_whose_rows_are_all_dropped_takes_no_step_and_is_counted(recipe: Recipe) -> None:
    result = run(recipe, [GOOD, MASKED, GOOD])
    empty = [row.values for row in result.metrics if row.values.get("rows") == 0]
    assert len(empty) == 1 and empty[0]["rows_dropped"] == 1 and "loss" not in empty[0] and "grad_norm" not in empty[0]
    assert result.results["rows_dropped"] == 1 and result.results["steps"] == 3


def test_data_that_trains_nothing_is_refused_with_the_reason(recipe: Recipe) -> None:
    with pytest.raises(DataError, match="row"):
        run(recipe, [MASKED, MASKED])


def test_without_held_out_rows_no_figure_is_reported(recipe: Recipe) -> None:
    result = run(recipe, [GOOD] * 4)
    assert not any(name.startswith("eval_") for name in result.results)
    assert "sample_before" not in result.results


def test_the_learning_rate_follows_its_schedule_over_the_steps_that_are_taken(recipe: Recipe) -> None:
    result = run(recipe, [GOOD] * 8, learning_rate=1.0, max_steps=4, warmup_steps=2)
    rates = [row.values["learning_rate"] for row in result.metrics]
    assert rates == [0.5, 1.0, 1.0, 0.5]


def test_every_row_is_trained_once_per_epoch(recipe: Recipe) -> None:
    result = run(recipe, [GOOD] * 5, batch_size=2, epochs=2)
    assert [row.values["rows"] for row in result.metrics] == [2, 2, 1, 2, 2, 1]
    assert result.stage_counts["finish_epoch"] == 2


def test_training_stops_at_max_steps_in_the_middle_of_an_epoch(recipe: Recipe) -> None:
    result = run(recipe, [GOOD] * 10, max_steps=13, epochs=2, pipeline_depth=3)
    assert result.results["steps"] == 13 and [row.step for row in result.metrics] == list(range(1, 14))


def test_rows_cut_by_max_length_are_counted(recipe: Recipe) -> None:
    long = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "long " * 50}]}
    result = run(recipe, [GOOD, long], max_length=60, waive="truncation")
    assert result.results["rows_truncated"] == 1


def test_chat_sl_reports_bits_per_byte() -> None:
    result = run_noop(crucible.describe("chat_sl"), {"max_steps": 2, "eval_rows": 4})
    assert result.results["eval_bits_per_byte_after"] > 0
