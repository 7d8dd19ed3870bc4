"""A row of tokens is trained as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.ports.dataset_store import RowSet
from crucible.testing.fakes.tokenizer import FakeTokenizer
from crucible.train.data import RowError, SupervisedDataset
from crucible.train.data.token_rows import example_from_tokens
from crucible.train.renderers import get_renderer


def test_tokens_and_weights_reach_the_datum_unchanged() -> None:
    rows = RowSet([{"tokens": [5, 6, 7, 8], "weights": [1, 0, 0.5, -2]}], name="rows")
    renderer = get_renderer("auto", FakeTokenizer())
    dataset = SupervisedDataset(
        rows,
        renderer=renderer,
        train_on="last_assistant_message",
        max_length=None,
        batch_size=1,
        seed=0,
        reduction="sum",
    )
    assert dataset.row_format == "tokens"
    (datum,) = dataset.render(dataset.epoch(0)[0]).datums
    assert datum.model_input.to_ints() == [5, 6, 7]
    assert datum.loss_fn_inputs["weights"].tolist() == [0.0, 0.5, -2.0]


@given(st.lists(st.sampled_from([0.0, 1.0, 0.25]), min_size=1, max_size=30))
def test_spans_cover_what_has_a_weight_and_nothing_else(weights) -> None:
    example = example_from_tokens({"tokens": [1] * len(weights), "weights": weights}, FakeTokenizer())
    covered = np.zeros(len(weights), dtype=bool)
    for span in example.spans:
        covered[span.start : span.end] = True
    assert covered.tolist() == (example.weights != 0).tolist()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": [1, 2]}, "weights is not a list"),
        ({"tokens": "1 2", "weights": [1, 1]}, "tokens is not a list"),
        ({"tokens": [1, True], "weights": [1, 1]}, "tokens is not a list"),
        ({"tokens": [1, 2], "weights": [1, float("nan")]}, "weights is not a list"),
        ({"tokens": [1, 2], "weights": [1]}, "not one weight for each"),
        ({"tokens": [1, 999], "weights": [1, 1]}, "no token of this model"),
        ({"tokens": [1, 1.5], "weights": [1, 1]}, "no token of this model"),
        ({"tokens": [], "weights": []}, "not a list of numbers"),
    ],
)
def test_a_malformed_row_is_refused_with_its_fault(row, said) -> None:
    with pytest.raises(RowError, match=said):
        example_from_tokens(row, FakeTokenizer())
