"""How well does a model predict the trained tokens? Mean negative log-likelihood and bits per byte."""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crucible.ports.tokenizer import Tokenizer


def mean_nll(logprobs: Sequence[ArrayLike], weights: Sequence[ArrayLike]) -> float:
    """`-sum(logprob * weight) / sum(weight)` over all sequences, in nats per unit of weight.

    logprobs, weights: one array (N,) per sequence. With weights of 0 and 1 (`reduction="sum"`) this is the
        mean over tokens; with weights that sum to 1 per example, the mean over examples. Positions of
        weight 0 are not looked at.

    Raises:
        ValueError: if the weights sum to 0, a weighted logprob is not finite, or lengths differ.
    """
    total = total_weight = 0.0
    for index, (logprob, weight) in enumerate(_pairs(logprobs, weights)):
        used = weight != 0
        _check_finite(logprob, used, index)
        total -= float(logprob[used] @ weight[used])
        total_weight += float(weight.sum())
    if total_weight == 0:
        raise ValueError("no token has a weight, so there is no mean to take")
    return total / total_weight


def bits_per_byte(
    logprobs: Sequence[ArrayLike], weights: Sequence[ArrayLike], targets: Sequence[ArrayLike], *, tokenizer: Tokenizer
) -> float:
    """`-sum(logprob) / (ln 2 * bytes)` over the counted tokens: comparable between tokenizers.

    A token counts if its weight is positive and it is not special; the weight's size plays no part. Bytes are
    those of the UTF-8 text of each run of counted tokens.

    Raises:
        ValueError: if nothing is counted, a counted logprob is not finite, or lengths differ.
    """
    special = np.array(sorted({*tokenizer.special_tokens.values(), *tokenizer.eos_ids}), dtype=np.int64)
    nats, size = 0.0, 0
    for index, ((logprob, weight), target) in enumerate(zip(_pairs(logprobs, weights), targets, strict=True)):
        ids = np.asarray(target, dtype=np.int64)
        if ids.shape != weight.shape:
            raise ValueError(f"sequence {index} has {len(weight)} weights and {len(ids)} targets")
        counted = (weight > 0) & ~np.isin(ids, special)
        _check_finite(logprob, counted, index)
        nats -= float(logprob[counted].sum())
        size += _byte_count(ids, counted, tokenizer)
    if size == 0:
        raise ValueError("no byte of text is counted, so there is nothing to divide by")
    return nats / (math.log(2) * size)


def _byte_count(ids: NDArray[np.int64], counted: NDArray[np.bool_], tokenizer: Tokenizer) -> int:
    runs = groupby(zip(ids.tolist(), counted.tolist(), strict=True), key=lambda pair: pair[1])
    return sum(len(tokenizer.decode([token for token, _ in run]).encode()) for is_counted, run in runs if is_counted)


def _pairs(
    logprobs: Sequence[ArrayLike], weights: Sequence[ArrayLike]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    pairs = [
        (np.asarray(logprob, dtype=np.float64), np.asarray(weight, dtype=np.float64))
        for logprob, weight in zip(logprobs, weights, strict=True)
    ]
    for index, (logprob, weight) in enumerate(pairs):
        if logprob.ndim != 1 or logprob.shape != weight.shape:
            raise ValueError(f"sequence {index} has logprobs {logprob.shape} and weights {weight.shape}")
    return pairs


def _check_finite(logprob: NDArray[np.float64], used: NDArray[np.bool_], index: int) -> None:
    wrong = used & ~np.isfinite(logprob)
    if wrong.any():
        position = int(np.argmax(wrong))
        raise ValueError(f"the logprob of sequence {index}, position {position} is {logprob[position]}")
