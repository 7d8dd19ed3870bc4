"""What does a fake model report beside its completions? Its hashed logprobs, of as many tokens as were asked for."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import TensorData
from crucible.ports.sampling_client import SampleReport, TopLogprobs
from crucible.testing.fakes.scores import token_logprobs
from crucible.testing.fakes.weights import FakeWeights


def likeliest(weights: FakeWeights, before: Sequence[int], *, k: int, vocab_size: int) -> list[TopLogprobs]:
    """The k tokens that are likeliest after each of `before`, the likeliest first, equals by id."""
    scores = _all_logprobs(weights, before, vocab_size)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        tuple((int(token), float(row[token])) for token in tokens) for row, tokens in zip(scores, order, strict=True)
    ]


def prompt_logprobs(
    weights: FakeWeights, tokens: Sequence[int], *, last: int | None = None
) -> tuple[float | None, ...]:
    """One per prompt token: None for the first, and for those before the last n."""
    ids = np.asarray(tokens, dtype=np.int64)
    found = [None, *(float(value) for value in token_logprobs(weights, ids[:-1], ids[1:]))]
    return tuple([None] * (len(found) - last) + found[len(found) - last :] if last is not None else found)


def prompt_report(
    weights: FakeWeights, prompt: Sequence[int], report: SampleReport, *, temperature: float, seed: int, vocab_size: int
) -> dict[str, Any]:
    """The fields of `SampleResponse` that speak of a prompt, but its logprobs.

    Alternatives are drawn evenly from all tokens; at temperature 0 they are the likeliest one.
    """
    before, fields = prompt[:-1], dict[str, Any]()
    if report.topk_prompt_logprobs:
        tops = likeliest(weights, before, k=report.topk_prompt_logprobs, vocab_size=vocab_size)
        first = 0 if report.prompt_logprobs_last_n is None else len(tops) - report.prompt_logprobs_last_n
        fields["topk_prompt_logprobs"] = (*[None] * (first + 1), *tops[first:])
    if report.target_prompt_logprobs is not None:
        ids = report.target_prompt_logprobs.data.astype(np.int64)
        found = token_logprobs(weights, np.asarray(before, dtype=np.int64), np.maximum(ids, 0))
        fields["target_prompt_logprobs"] = TensorData(np.where(ids < 0, np.float32(0), found))
    if report.prompt_alt_tokens_k:
        shape = (len(before), report.prompt_alt_tokens_k)
        digest = hashlib.sha256(repr((weights.model, tuple(prompt), seed, "alternatives")).encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(digest[:16], "big")).integers(vocab_size, size=shape)
        if temperature == 0:
            drawn = np.broadcast_to(_all_logprobs(weights, before, vocab_size).argmax(axis=1)[:, None], shape)
        fields["prompt_alt_tokens"] = TensorData(drawn.astype(np.int64))
        logprobs = token_logprobs(weights, np.asarray(before, dtype=np.int64), drawn.astype(np.int64))
        fields["prompt_alt_logprobs"] = TensorData(logprobs)
    return fields


def report_complaints(report: SampleReport, *, prompt_length: int, prompt_logprobs: bool, vocab_size: int) -> list[str]:
    """What does not fit the prompt, each as a phrase."""
    rows, last, targets = prompt_length - 1, report.prompt_logprobs_last_n, report.target_prompt_logprobs
    counts = {
        "topk_prompt_logprobs": report.topk_prompt_logprobs,
        "topk_sample_logprobs": report.topk_sample_logprobs,
        "prompt_alt_tokens_k": report.prompt_alt_tokens_k,
    }
    wrong = [f"{name} is {k}: 0 to {vocab_size}" for name, k in counts.items() if not 0 <= k <= vocab_size]
    if last is not None and not (1 <= last <= rows and prompt_logprobs):
        wrong.append(f"prompt_logprobs_last_n is {last}: 1 to {rows}, with prompt_logprobs")
    if targets is not None and (targets.dtype != "int64" or len(targets.shape) != 2 or targets.shape[0] != rows):
        wrong.append(f"target_prompt_logprobs is {targets!r}: int64 ids of shape ({rows}, K)")
    elif targets is not None and ((targets.data < -1) | (targets.data >= vocab_size)).any():
        wrong.append(f"target_prompt_logprobs has an id that is none of the vocabulary of {vocab_size}")
    return wrong


def _all_logprobs(weights: FakeWeights, before: Sequence[int], vocab_size: int) -> NDArray[np.float32]:
    """(len(before), vocab_size)."""
    every = np.broadcast_to(np.arange(vocab_size, dtype=np.int64), (len(before), vocab_size))
    return token_logprobs(weights, np.asarray(before, dtype=np.int64), every)
