"""What does a fake model say of a sequence? Logprobs that are a hash of the tokens and shrink with training."""

import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import Datum
from crucible.testing.fakes.weights import FakeWeights
from crucible.testing.loss_formulas import TENSORS, TOPK

UPDATES_TO_HALVE = 8
"""A sequence's loss halves over this many updates, then falls on as 1 / updates."""


def token_logprobs(weights: FakeWeights, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """log p(target | token), of the targets' shape, (N,) or (N, K).

    `-nats / (1 + updates / 8)`, nats in [1, 5) by a hash of both tokens.
    """
    tokens = tokens.reshape(len(tokens), *[1] * (targets.ndim - 1))
    state = tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + targets.astype(np.uint64)
    state = state ^ np.uint64(zlib.crc32(weights.model.encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64's mixer
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    fraction = ((state ^ (state >> np.uint64(31))) >> np.uint64(11)) / np.float64(1 << 53)
    return (-(1 + 4 * fraction) / (1 + weights.updates / UPDATES_TO_HALVE)).astype(np.float32)


def read_tokens(datum: Datum, *, vocab_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A datum's tokens (N,) and targets (N,) or (N, K).

    Raises:
        ValueError: if there are no targets, or of another length, or a token is no id of the vocabulary.
    """
    tokens = np.asarray(datum.model_input.to_ints(), dtype=np.int64)
    if "target_tokens" not in datum.loss_fn_inputs:
        raise ValueError("every loss needs target_tokens")
    targets = datum.loss_fn_inputs["target_tokens"]
    if targets.shape[:1] != tokens.shape or len(targets.shape) > 2:
        raise ValueError(f"target_tokens has shape {targets.shape}; the input has {len(tokens)} tokens")
    if targets.dtype != "int64":
        raise ValueError(f"target_tokens holds token ids (int64), not {targets.dtype}")
    ids = np.concatenate([tokens, targets.data.ravel()])
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if outside.size:
        raise ValueError(f"{int(outside[0])} is no token id: the vocabulary has {vocab_size}")
    return tokens, targets.data.astype(np.int64)


def read_inputs(datum: Datum, loss_fn: str) -> Mapping[str, NDArray[np.float64]]:
    """What a loss reads beside the targets, of their shape; no `weights` means 1 everywhere.

    Raises:
        ValueError: if a tensor is missing, not finite, of another shape, or none that the loss reads; or if it takes
            one target at a position and there are several.
    """
    given, shape = datum.loss_fn_inputs, datum.loss_fn_inputs["target_tokens"].shape
    if len(shape) == 2 and loss_fn not in TOPK:
        raise ValueError(f"target_tokens has shape {shape}; {loss_fn} takes one at a position")
    if unread := sorted({*given} - {"target_tokens", *TENSORS[loss_fn]}):
        raise ValueError(f"{loss_fn} does not read {', '.join(unread)}")
    inputs: dict[str, NDArray[np.float64]] = {}
    for name in TENSORS[loss_fn]:
        if name not in given and name != "weights":
            raise ValueError(f"{loss_fn} needs {name}")
        inputs[name] = given[name].data.astype(np.float64) if name in given else np.ones(shape)
        if inputs[name].shape != shape:
            raise ValueError(f"{name} has shape {inputs[name].shape}; target_tokens has {shape}")
        if not np.isfinite(inputs[name]).all():
            raise ValueError(f"{name} holds a number that is not finite")
    if loss_fn == "gspo" and not inputs["sequence_ratio_mask"].any():
        raise ValueError("sequence_ratio_mask marks no position")
    return inputs
