"""How are the tokens of a rollout scored again, to find out why sampler and trainer disagree?"""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import ModelInput, TensorData
from crucible.ports.sampling_client import (
    SampleReport,
    SamplingClient,
    SamplingParams,
    SamplingSession,
    TopLogprobs,
)
from crucible.train.rl.assembly import RLDatum
from crucible.train.rl.gap import GapEvidence, Scores, sampled_only
from crucible.train.rl.penalties import aligned

TOP = 20
"""Likeliest tokens that are asked for to work out a tempered distribution: as many as the hosted service gives."""


async def gather_evidence(
    client: SamplingClient,
    datums: Sequence[RLDatum],
    outputs: Sequence[Mapping[str, TensorData]],
    *,
    session: SamplingSession,
    snapshot: SamplingSession,
    base: SamplingSession,
    temperature: float,
) -> GapEvidence:
    """Score the datums by every session, and let the one that sampled draw again; a few datums are enough (the first
    of `SamplerGap.worst`).

    outputs: the trainer's. session: the one that sampled. snapshot: on the trainer's weights, saved after nothing was
    changed since `outputs`. base: on the base model. temperature: that the tokens were drawn at.

    Raises:
        PortError: if a backend fails.
    """
    rescored = [await _scores(client, one, datums) for one in (session, snapshot, base)]
    redrawn = await asyncio.gather(*(_redrawn(client, session, datum) for datum in datums))
    heated = temperature not in (0.0, 1.0) and client.capabilities().report
    return GapEvidence(
        reported=[sampled_only(datum, datum.sampler_logprobs) for datum in datums],
        session=rescored[0],
        snapshot=rescored[1],
        base=rescored[2],
        trainer=[sampled_only(datum, output["logprobs"].data) for datum, output in zip(datums, outputs, strict=True)],
        tempered=await _tempered(client, snapshot, datums, temperature) if heated else None,
        drawn=[drawn for drawn, _ in redrawn],
        read=[read for _, read in redrawn],
        temperature=temperature,
    )


def tempered_logprobs(
    logprobs: Sequence[float], likeliest: Sequence[TopLogprobs], *, temperature: float
) -> NDArray[np.float64]:
    """(N,): what the logprobs would be at `temperature`: l / T - log sum over the vocabulary of p ** (1 / T).

    likeliest: of each position, the likeliest first. What lies beyond them is taken to fall geometrically, from the
    least of them, over the mass that is left; with the whole vocabulary given nothing is left.
    """
    totals = [_log_total([score for _, score in top], temperature) for top in likeliest]
    return np.array(logprobs, dtype=np.float64) / temperature - np.array(totals)


def _log_total(scores: Sequence[float], temperature: float) -> float:
    """Of a falling p(r) = p(0) exp(-a r) with mass m = p(0) / a, the sum of p ** (1 / T) is T m p(0) ** (1 / T - 1)."""
    if not scores:
        return float("nan")
    known = np.array(scores, dtype=np.float64)
    left = max(0.0, 1.0 - float(np.exp(known).sum()))
    tail = temperature * left * float(np.exp(known[-1] * (1 / temperature - 1)))
    return float(np.log(np.exp(known / temperature).sum() + tail))


async def _scores(client: SamplingClient, session: SamplingSession, datums: Sequence[RLDatum]) -> Scores:
    answers = await asyncio.gather(*(client.compute_logprobs(session, datum.sequence) for datum in datums))
    return [sampled_only(datum, aligned(answer)) for datum, answer in zip(datums, answers, strict=True)]


async def _redrawn(
    client: SamplingClient, session: SamplingSession, datum: RLDatum
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logprobs of tokens that the session draws now, as many as the datum's at most, after the same prompt: as it
    reports them, and as it scores them when it reads them."""
    begins = int(np.argmax(datum.mask)) + 1
    prompt = datum.sequence.to_ints()[:begins]
    params = SamplingParams(max_tokens=int(datum.mask.sum()), temperature=1.0, seed=0)
    (drawn,) = (await client.sample(session, ModelInput.from_ints(prompt), params=params)).sequences
    read = await client.compute_logprobs(session, ModelInput.from_ints([*prompt, *drawn.tokens]))
    return np.array(drawn.logprobs, dtype=np.float64), aligned(read)[begins - 1 :].astype(np.float64)


async def _tempered(
    client: SamplingClient, session: SamplingSession, datums: Sequence[RLDatum], temperature: float
) -> Scores:
    return await asyncio.gather(*(_tempered_datum(client, session, datum, temperature) for datum in datums))


async def _tempered_datum(
    client: SamplingClient, session: SamplingSession, datum: RLDatum, temperature: float
) -> NDArray[np.float64]:
    """All but the last token's: with that, and the one that must be drawn, the context might be exceeded."""
    answer = await client.sample(
        session,
        datum.datum.model_input,
        params=SamplingParams(max_tokens=1, temperature=0.0, seed=0),
        prompt_logprobs=True,
        report=SampleReport(topk_prompt_logprobs=TOP),
    )
    assert answer.prompt_logprobs is not None and answer.topk_prompt_logprobs is not None, "both were asked for"
    scores = [np.nan if score is None else score for score in answer.prompt_logprobs[1:]]
    tops = [top or () for top in answer.topk_prompt_logprobs[1:]]
    return sampled_only(datum, np.append(tempered_logprobs(scores, tops, temperature=temperature), np.nan))
