"""The two measures against their formulas, and never a silent NaN."""

import math

import numpy as np
import pytest

from crucible.train.nll import bits_per_byte, mean_nll


def test_the_mean_is_weighted_and_looks_past_positions_of_no_weight() -> None:
    logprobs = [np.array([-1.0, np.nan, -3.0]), np.array([-2.0])]
    weights = [np.array([1.0, 0.0, 0.5]), np.array([2.0])]
    assert mean_nll(logprobs, weights) == pytest.approx((1 + 1.5 + 4) / 3.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weighted_logprob_that_is_no_number_is_refused_by_place(value) -> None:
    with pytest.raises(ValueError, match="sequence 1, position 0"):
        mean_nll([np.zeros(2), np.array([value])], [np.ones(2), np.ones(1)])


def test_no_weight_and_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="no token has a weight"):
        mean_nll([np.zeros(2)], [np.zeros(2)])
    with pytest.raises(ValueError, match="weights"):
        mean_nll([np.zeros(2)], [np.zeros(3)])


def test_bits_per_byte_counts_trained_text_and_no_special_token(tokenizers) -> None:
    tokenizer = tokenizers["chatml"]
    ids = tokenizer.encode("hé there<|im_end|>").ids
    weights = np.full(len(ids), 0.25)
    weights[0] = 0  # the h is not trained, so neither its loss nor its byte counts
    counted = len(ids) - 2
    expected = 2.0 * counted / (math.log(2) * len("é there".encode()))
    assert bits_per_byte([np.full(len(ids), -2.0)], [weights], [ids], tokenizer=tokenizer) == pytest.approx(expected)


def test_bits_per_byte_of_no_byte_is_refused(tokenizers) -> None:
    ids = tokenizers["chatml"].encode("<|im_end|>").ids
    with pytest.raises(ValueError, match="no byte"):
        bits_per_byte([np.zeros(1)], [np.ones(1)], [ids], tokenizer=tokenizers["chatml"])
    with pytest.raises(ValueError, match="targets"):
        bits_per_byte([np.zeros(1)], [np.ones(1)], [[1, 2]], tokenizer=tokenizers["chatml"])
