"""Does a sampling request report what else it was asked for: top-k, targets, alternatives, the last n alone?"""

import numpy as np

from crucible.server.conformance.answers import Broken
from crucible.server.conformance.checks import Array, Bench, Check, holds, same, tokens, told
from crucible.server.conformance.messages import Drawn, tensor_json
from crucible.server.conformance.runs import Sampler

_PROMPT = tokens(9, seed=31)
_K = 4


def _report(sampler: Sampler, *, max_tokens: int = 1, seed: int = 1, **report: object) -> Drawn:
    params = {"max_tokens": max_tokens, "temperature": 1.0, "seed": seed, "stop": list[int]()}
    return sampler.sample(_PROMPT, params, report=report)


def _given(value: Array | tuple[Array, Array] | None, name: str) -> None:
    if value is None:
        raise Broken(f"{name} was asked for and did not come")


def topk_prompt_logprobs(bench: Bench) -> str:
    """topk_prompt_logprobs gives the k likeliest tokens at each position, in order, with their logprobs."""
    with bench.session() as session:
        drawn = _report(session.sampler(), prompt_logprobs=True, topk_prompt_logprobs=_K)
    _given(drawn.topk_prompt, "topk_prompt_logprobs")
    assert drawn.topk_prompt is not None and drawn.prompt_logprobs is not None
    ids, lps = drawn.topk_prompt
    found = [holds(ids.shape == (len(_PROMPT), _K), "shape", expected=(len(_PROMPT), _K), got=ids.shape)]
    holds(bool((np.diff(lps[1:], axis=1) <= 0).all()), "order", expected="the likeliest first", got=lps[1:].tolist())
    holds(bool((lps[1:, 0] <= 0).all()), "logprobs", expected="at most 0", got=lps[1:, 0].max())
    for place in range(1, len(_PROMPT)):
        own = float(drawn.prompt_logprobs[place])
        where = np.flatnonzero(ids[place] == _PROMPT[place])
        if where.size:
            same("the prompt's own token among them", lps[place][where[0]], own, within=bench.tolerance)
        else:
            least = float(lps[place, -1])
            holds(own <= least + bench.tolerance, "a token left out", expected=f"at most {least}", got=own)
    return told(*found, f"{len(_PROMPT) - 1} positions agree with prompt_logprobs")


def topk_sample_logprobs(bench: Bench) -> str:
    """topk_sample_logprobs gives the k likeliest tokens at each sampled position, untempered."""
    with bench.session() as session:
        drawn = _report(session.sampler(), max_tokens=8, topk_sample_logprobs=_K).completions[0]
    _given(drawn.topk, "topk_sample_logprobs")
    assert drawn.topk is not None
    ids, lps = drawn.topk
    found = [holds(ids.shape == (8, _K), "shape", expected=(8, _K), got=ids.shape)]
    for place, (token, own) in enumerate(zip(drawn.tokens, drawn.logprobs, strict=True)):
        where = np.flatnonzero(ids[place] == token)
        if where.size:
            same("the sampled token among them", lps[place][where[0]], own, within=bench.tolerance)
    return told(*found, holds(bool((np.diff(lps, axis=1) <= 0).all()), "order", expected="sorted", got="sorted"))


def target_prompt_logprobs(bench: Bench) -> str:
    """target_prompt_logprobs scores the ids of each row at that row's position; -1 asks for nothing."""
    targets = np.stack([np.asarray(_PROMPT[1:]), np.asarray(tokens(len(_PROMPT) - 1, seed=32))], axis=1)
    targets[3, 1] = -1
    with bench.session() as session:
        sampler = session.sampler()
        drawn = _report(sampler, prompt_logprobs=True, target_prompt_logprobs=tensor_json(targets))
        swapped = (*_PROMPT[:5], int(targets[4, 1]))
        other = sampler.prompt_logprobs(swapped)
    _given(drawn.targets, "target_prompt_logprobs")
    assert drawn.targets is not None and drawn.prompt_logprobs is not None
    return told(
        holds(drawn.targets.shape == targets.shape, "shape", expected=targets.shape, got=drawn.targets.shape),
        same("the prompt's own tokens", drawn.targets[:, 0], drawn.prompt_logprobs[1:], within=bench.tolerance),
        same("another token", drawn.targets[4, 1], other[5], within=bench.tolerance),
    )


def prompt_alt_tokens(bench: Bench) -> str:
    """prompt_alt_tokens_k draws k tokens at each position after the first, with the model's logprobs of them."""
    with bench.session() as session:
        sampler = session.sampler()
        drawn = _report(sampler, prompt_alt_tokens_k=_K)
        _given(drawn.alt_tokens, "prompt_alt_tokens")
        assert drawn.alt_tokens is not None and drawn.alt_logprobs is not None
        scored = _report(sampler, target_prompt_logprobs=tensor_json(drawn.alt_tokens.astype(np.int64)))
    _given(scored.targets, "target_prompt_logprobs")
    shape = (len(_PROMPT) - 1, _K)
    return told(
        holds(drawn.alt_tokens.shape == shape, "shape", expected=shape, got=drawn.alt_tokens.shape),
        same(
            "logprobs, and those of the same ids as targets", drawn.alt_logprobs, scored.targets, within=bench.tolerance
        ),
    )


def prompt_logprobs_last_n(bench: Bench) -> str:
    """prompt_logprobs_last_n scores the last n prompt tokens alone, as a request for all of them does."""
    with bench.session() as session:
        sampler = session.sampler()
        whole = sampler.prompt_logprobs(_PROMPT)
        got = _report(sampler, prompt_logprobs=True, prompt_logprobs_last_n=3).prompt_logprobs
    _given(got, "prompt_logprobs")
    assert got is not None
    return told(
        holds(len(got) == len(_PROMPT), "entries", expected=len(_PROMPT), got=len(got)),
        holds(bool(np.isnan(got[:-3]).all()), "entries before the last 3", expected="none", got=got[:-3].tolist()),
        same("the last 3", got[-3:], whole[-3:], within=bench.tolerance),
    )


CHECKS = (
    Check(topk_prompt_logprobs, required=False),
    Check(topk_sample_logprobs, required=False),
    Check(target_prompt_logprobs, required=False),
    Check(prompt_alt_tokens, required=False),
    Check(prompt_logprobs_last_n, required=False),
)
