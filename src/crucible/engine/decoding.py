# pyright: standard
# (transformers' models are loosely typed)
"""How does a causal language model continue a prompt?

With a KV cache: the prompt is read once for all its completions, then each completion is decoded on its own, one
token at a time. That makes a completion a function of prompt, weights and seed alone, whatever is sampled beside it.
(Decoding several sequences in one batch, with the same bits, needs fixed slots and a part of its own.)
"""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel

from crucible.engine.decoding_draw import check_params, draw, generator
from crucible.engine.decoding_stops import StopRule, StopWatch
from crucible.ports.sampling_client import Provenance, SampledSequence, SampleResponse, SamplingParams
from crucible.ports.tokenizer import Tokenizer

_CHUNK = 256
"""Most prompt tokens in one forward pass: bounds the logits in memory to this many rows. A constant, since other
chunks give other bits."""


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    prompt_ids: Sequence[int],
    *,
    provenance: Provenance,
    params: SamplingParams,
    num_samples: int,
    tokenizer: Tokenizer,
    prompt_logprobs: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> SampleResponse:
    """Draw `num_samples` completions of a prompt; sample i depends on `params.seed` and i.

    model: a causal language model in evaluation mode. Whatever adapter is active on it takes part.
    prompt_logprobs: report those of the prompt too; the completions are the same with and without.
    should_stop: asked before every forward pass.

    Raises:
        ValueError: if the prompt is empty or holds what is no token id of the model, a parameter is out of range,
            or prompt plus max_tokens exceeds the model's context.
        ArithmeticError: if the model's logits are not numbers.
        CancelledError: if `should_stop` says so.
    """
    _check(model, prompt_ids, room=params.max_tokens)
    check_params(params)
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, not {num_samples}")
    rule = StopRule.of(params, tokenizer)
    reader = _Reader(model, should_stop=should_stop)
    seed = np.random.SeedSequence(params.seed)
    cache = DynamicCache(config=model.config)
    scores = reader.read(prompt_ids[:-1], cache=cache, following=prompt_ids[1:] if prompt_logprobs else None)
    # The last token is read alone, with and without prompt_logprobs: other shapes would give the logits other bits.
    logits = reader.step(prompt_ids[-1], cache=cache)
    sequences: list[SampledSequence] = []
    for index in range(num_samples):
        # Some layers write into their cache in place, so each completion but the last continues a copy.
        own = cache if index == num_samples - 1 else copy.deepcopy(cache)
        sequences.append(
            _complete(
                reader,
                logits,
                cache=own,
                params=params,
                rng=generator(seed, index),
                watch=StopWatch(rule, tokenizer),
                known=tokenizer.vocab_size,
            )
        )
    return SampleResponse(
        sequences=tuple(sequences),
        provenance=provenance,
        prompt_logprobs=(None, *scores) if prompt_logprobs else None,
    )


def _complete(
    reader: "_Reader",
    logits: NDArray[np.float32],
    *,
    cache: DynamicCache,
    params: SamplingParams,
    rng: np.random.Generator,
    watch: StopWatch,
    known: int,
) -> SampledSequence:
    """One completion of what is in the cache, whose next token has these (V,) logits."""
    tokens: list[int] = []
    logprobs: list[float] = []
    while True:
        token, logprob = draw(logits, params=params, rng=rng, known=known)
        tokens.append(token)
        logprobs.append(logprob)
        stopped = watch.complete(token)
        if stopped or len(tokens) == params.max_tokens:
            reason = "stop" if stopped else "length"
            return SampledSequence(tokens=tuple(tokens), logprobs=tuple(logprobs), stop_reason=reason)
        logits = reader.step(token, cache=cache)


@torch.no_grad()
def score(
    model: PreTrainedModel, ids: Sequence[int], *, should_stop: Callable[[], bool] | None = None
) -> tuple[float | None, ...]:
    """The log-probability of each token given those before it; the first is None. Errors as for `decode`."""
    _check(model, ids, room=0)
    reader = _Reader(model, should_stop=should_stop)
    return (None, *reader.read(ids[:-1], cache=DynamicCache(config=model.config), following=ids[1:]))


def _check(model: PreTrainedModel, ids: Sequence[int], *, room: int) -> None:
    assert not model.training, "decoding needs a model in evaluation mode"
    if not ids:
        raise ValueError("the prompt is empty: give at least one token")
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding)
    outside = [token for token in ids if not 0 <= token < embedding.num_embeddings]
    if outside:
        raise ValueError(f"token id {outside[0]} is outside the model's vocabulary of {embedding.num_embeddings}")
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and len(ids) + room > context:
        asked = f"{len(ids)} prompt tokens and max_tokens={room}" if room else f"{len(ids)} tokens"
        raise ValueError(f"{asked} exceed the model's context of {context}")


class _Reader:
    """Feeds tokens to the model."""

    def __init__(self, model: PreTrainedModel, *, should_stop: Callable[[], bool] | None) -> None:
        self._model, self._should_stop = model, should_stop

    def read(self, ids: Sequence[int], *, cache: DynamicCache, following: Sequence[int] | None) -> list[float]:
        """Read `ids` into the cache; with `following`, the (N,) log-probabilities of the token after each."""
        scores: list[float] = []
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            logits = self._forward(chunk, cache=cache, rows=len(chunk) if following is not None else 1)
            if following is not None:
                targets = torch.tensor(following[start : start + _CHUNK], device=logits.device)
                chosen = logits.gather(1, targets[:, None])[:, 0]
                scores += (chosen - logits.logsumexp(dim=1)).tolist()
        return scores

    def step(self, token: int, *, cache: DynamicCache) -> NDArray[np.float32]:
        """Read one more token; the (V,) float32 logits of the next."""
        return self._forward([token], cache=cache, rows=1)[0].cpu().numpy()

    def _forward(self, ids: Sequence[int], *, cache: DynamicCache, rows: int) -> torch.Tensor:
        """The (rows, V) float32 logits of the last `rows` tokens."""
        if self._should_stop is not None and self._should_stop():
            raise CancelledError("sampling was cancelled")
        inputs = torch.tensor([list(ids)], device=self._model.device)
        output = self._model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=rows)
        return output.logits[0].float()
