"""How do a sampling request and its answer cross to the SDK's types and back?"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import tinker

from crucible.adapters.tinker.conversion import from_tensor
from crucible.ports.sampling_client import (
    Provenance,
    SampledSequence,
    SampleResponse,
    SamplingParams,
    TopLogprobs,
)

_SdkTop: TypeAlias = Sequence[Sequence[tuple[int, float]] | None]


def to_params(params: SamplingParams) -> tinker.SamplingParams:
    """Field by field; a sequence of stops becomes a list, also where it is empty."""
    stop: Any = params.stop if params.stop is None or isinstance(params.stop, str) else list(params.stop)
    return tinker.SamplingParams(
        max_tokens=params.max_tokens,
        seed=params.seed,
        stop=stop,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
    )


def from_response(response: tinker.SampleResponse, provenance: Provenance) -> SampleResponse:
    """The port's response.

    Raises:
        ValueError: if the service left out the logprobs of sampled tokens.
    """
    scored, alternatives = response.prompt_logprobs, response.prompt_alt_tokens
    targets = response.target_prompt_logprobs
    return SampleResponse(
        sequences=tuple(_sequence(sequence) for sequence in response.sequences),
        provenance=provenance,
        prompt_logprobs=None if scored is None else tuple(scored),
        topk_prompt_logprobs=_top(response.topk_prompt_logprobs),
        target_prompt_logprobs=None if targets is None else from_tensor(targets),
        prompt_alt_tokens=None if alternatives is None else from_tensor(alternatives.tokens),
        prompt_alt_logprobs=None if alternatives is None else from_tensor(alternatives.logprobs),
    )


def _sequence(sequence: tinker.SampledSequence) -> SampledSequence:
    if sequence.logprobs is None:
        raise ValueError("the service sent sampled tokens without their logprobs")
    top = _top(sequence.topk_logprobs)
    return SampledSequence(
        tokens=tuple(sequence.tokens),
        logprobs=tuple(sequence.logprobs),
        stop_reason=sequence.stop_reason,
        topk_logprobs=None if top is None else tuple(position or () for position in top),
    )


def _top(positions: _SdkTop | None) -> tuple[TopLogprobs | None, ...] | None:
    if positions is None:
        return None
    return tuple(None if at is None else tuple((token, logprob) for token, logprob in at) for at in positions)
