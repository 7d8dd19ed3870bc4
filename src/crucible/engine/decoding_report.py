# pyright: standard
# (torch's reductions are loosely typed)
"""What does the model say of a prompt's own tokens?

Row i of the logits, that of prompt token i, speaks of token i + 1. Rows come in blocks, so that the prompt's length
times the vocabulary never exists at once, and each row is in the same block whatever is asked: its bits are the same.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crucible.engine.decoding_draw import NextToken, generator
from crucible.engine.decoding_request import DecodeRequest
from crucible.ports.datum import TensorData
from crucible.ports.sampling_client import SamplingParams, TopLogprobs

BLOCK_ROWS = 64
"""Rows whose logits exist at once."""

_ALTERNATIVES = 1
"""The second number of the keys of the streams that alternatives are drawn from."""


@dataclass(frozen=True)
class _Asked:
    """The first row that each thing is asked of."""

    logprobs: int
    topk: int
    every: int

    @property
    def first(self) -> int:
        return min(self.logprobs, self.topk, self.every)


class PromptReport:
    """What a request asks of its prompt, filled in as the prompt is read."""

    def __init__(self, request: DecodeRequest, *, seed: np.random.SeedSequence) -> None:
        self._request, self._seed = request, seed
        report, self._rows = request.report, len(request.prompt) - 1
        last = self._rows if report.prompt_logprobs_last_n is None else report.prompt_logprobs_last_n
        scored = self._rows - last
        self._asked = _Asked(
            logprobs=scored if request.prompt_logprobs else self._rows,
            topk=scored if report.topk_prompt_logprobs else self._rows,
            every=0 if report.target_prompt_logprobs is not None or report.prompt_alt_tokens_k else self._rows,
        )
        self._logprobs: list[float | None] = [None] * len(request.prompt)
        self._topk: list[TopLogprobs | None] = [None] * len(request.prompt)
        targets = report.target_prompt_logprobs
        self._targets = None if targets is None else targets.data
        self._target_logprobs = np.zeros((0, 0) if targets is None else targets.shape, np.float32)
        self._alternatives = np.zeros((self._rows, report.prompt_alt_tokens_k), np.int64)
        self._alternative_logprobs = np.zeros((self._rows, report.prompt_alt_tokens_k), np.float32)

    def wants(self, end: int) -> bool:
        """Whether anything is asked of the rows before `end` that end a block there."""
        return self._asked.first < end

    def take(self, start: int, logits: Tensor) -> None:
        """The float32 logits (n, V) of rows from `start` on."""
        following = torch.tensor(self._request.prompt[start + 1 : start + 1 + len(logits)], device=logits.device)
        normalisers = logits.logsumexp(dim=1)
        chosen = (logits.gather(1, following[:, None])[:, 0] - normalisers).tolist()
        for row in range(max(start, self._asked.logprobs), start + len(logits)):
            self._logprobs[row + 1] = chosen[row - start]
        if self._targets is not None:
            self._take_targets(self._targets[start : start + len(logits)], start, logits, normalisers)
        topk, k = self._request.report.topk_prompt_logprobs, self._request.report.prompt_alt_tokens_k
        rows = range(start if k else max(start, self._asked.topk), start + len(logits))
        values = logits.cpu().numpy() if rows else None
        for row in rows:
            assert values is not None
            distribution = NextToken(values[row - start])
            if row >= self._asked.topk:
                self._topk[row + 1] = distribution.likeliest(topk)
            if k:
                self._draw_alternatives(row, distribution)

    def _take_targets(self, targets: NDArray[Any], start: int, logits: Tensor, normalisers: Tensor) -> None:
        ids = torch.from_numpy(targets.astype(np.int64)).to(logits.device)
        found = logits.gather(1, ids.clamp(min=0)) - normalisers[:, None]
        self._target_logprobs[start : start + len(ids)] = found.masked_fill_(ids < 0, 0.0).cpu().numpy()

    def _draw_alternatives(self, row: int, distribution: NextToken) -> None:
        """With replacement, at the request's temperature, from the whole distribution. A row has its own stream."""
        tokenizer = self._request.tokenizer
        assert tokenizer is not None, "what is drawn has a tokenizer"
        rng = generator(self._seed, row, _ALTERNATIVES)
        params = SamplingParams(temperature=self._request.params.temperature)
        for place in range(self._request.report.prompt_alt_tokens_k):
            token = distribution.draw(params, rng=rng, known=tokenizer.vocab_size)
            self._alternatives[row, place] = token
            self._alternative_logprobs[row, place] = distribution.logprob(token)

    def fields(self) -> dict[str, Any]:
        """The fields of `SampleResponse` that speak of the prompt."""
        report, alternatives = self._request.report, self._request.report.prompt_alt_tokens_k > 0
        return {
            "prompt_logprobs": tuple(self._logprobs) if self._request.prompt_logprobs else None,
            "topk_prompt_logprobs": tuple(self._topk) if report.topk_prompt_logprobs else None,
            "target_prompt_logprobs": None if self._targets is None else TensorData(self._target_logprobs),
            "prompt_alt_tokens": TensorData(self._alternatives) if alternatives else None,
            "prompt_alt_logprobs": TensorData(self._alternative_logprobs) if alternatives else None,
        }
