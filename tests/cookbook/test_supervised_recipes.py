"""The supervised recipes make of a config what its keys say."""

import pytest

from crucible.cookbook import CHAT_SL, SL_BASIC
from crucible.kitchen.config import Layer
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.stages.loading import LoadDataset


def loading(recipe: Recipe, **config: object) -> LoadDataset:
    built = recipe.configure(Layer(origin="test", values=config))
    load = recipe.workflow(built.value).body[0]
    assert isinstance(load, LoadDataset)
    return load


def test_a_data_set_with_a_split_to_evaluate_on_holds_out_no_training_rows() -> None:
    load = loading(SL_BASIC, dataset="no_robots")
    assert (load.heldout_reference, load.heldout_split, load.holdout) == ("", "test", 32)


def test_an_evaluation_set_of_its_own_is_read_from_its_own_split() -> None:
    load = loading(CHAT_SL, dataset="tulu3", eval_dataset="no_robots")
    assert (load.heldout_reference, load.heldout_split) == ("HuggingFaceH4/no_robots", "test")


@pytest.mark.parametrize("config", [{"dataset": "no_robots"}, {"eval_dataset": "no_robots"}])
def test_no_evaluation_rows_means_no_evaluation_whatever_there_is_to_evaluate_on(config: dict[str, str]) -> None:
    load = loading(CHAT_SL, eval_rows=0, **config)
    assert (load.heldout_reference, load.heldout_split, load.holdout) == ("", "", 0)
