"""What does a fake model say of a sequence? Logprobs that are a hash of the tokens and shrink with training."""

import zlib

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import Datum, TensorData
from crucible.testing.fakes.weights import FakeWeights

UPDATES_TO_HALVE = 8
"""A sequence's loss halves over this many updates, then falls on as 1 / updates."""


def token_logprobs(weights: FakeWeights, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """log p(target | token), (N,) each: `-nats / (1 + updates / 8)`, nats in [1, 5) by a hash of both tokens."""
    state = tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + targets.astype(np.uint64)
    state = state ^ np.uint64(zlib.crc32(weights.model.encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64's mixer
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    fraction = ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / np.float64(1 << 53)
    return (-(1 + 4 * fraction) / (1 + weights.updates / UPDATES_TO_HALVE)).astype(np.float32)


def read_datum(datum: Datum, *, vocab_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """A datum's tokens, targets and weights, (N,) each; no `weights` means 1 everywhere.

    Raises:
        ValueError: if a tensor is missing or of another length, or a token is no id of the vocabulary.
    """
    tokens = np.asarray(datum.model_input.to_ints(), dtype=np.int64)
    if "target_tokens" not in datum.loss_fn_inputs:
        raise ValueError("cross_entropy needs target_tokens")
    targets = datum.loss_fn_inputs["target_tokens"]
    weights = datum.loss_fn_inputs.get("weights", TensorData(np.ones(len(tokens), dtype=np.float32)))
    for name, tensor in (("target_tokens", targets), ("weights", weights)):
        if tensor.shape != tokens.shape:
            raise ValueError(f"{name} has shape {tensor.shape}; the input has {len(tokens)} tokens")
    if targets.dtype != "int64":
        raise ValueError(f"target_tokens holds token ids (int64), not {targets.dtype}")
    ids = np.concatenate([tokens, targets.data])
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if outside.size:
        raise ValueError(f"{int(outside[0])} is no token id: the vocabulary has {vocab_size}")
    return tokens, targets.data.astype(np.int64), weights.data.astype(np.float32)
