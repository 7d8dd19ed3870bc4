"""Is a sampler that is not what it should be caught, and named for what it is, on the real engine?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_groups import Policy, group_of, member, policy_on

from crucible.errors import RolloutGapError
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.sampling_client import SampleReport, SamplingParams, SamplingSession
from crucible.train.rl.assembly import RLDatum, assemble
from crucible.train.rl.gap import UNDIAGNOSED, GapEvidence, diagnose, off_policy_gap, sampler_gap
from crucible.train.rl.gap_evidence import gather_evidence, tempered_logprobs

LIMIT = 1e-3


def sampled(policy: Policy, session: SamplingSession) -> list[RLDatum]:
    groups = policy.rollouts(session)
    return assemble(groups, [[1.0] * 3 for _ in groups], loss="importance_sampling")


def reporting(one: RLDatum, logprobs: np.ndarray) -> RLDatum:
    """As if the sampler had reported these of the sampled tokens."""
    spread = np.zeros(one.mask.shape)
    spread[one.mask] = logprobs
    inputs = {**one.datum.loss_fn_inputs, "logprobs": TensorData(spread)}
    return replace(one, datum=Datum(one.datum.model_input, inputs))


def without_first_token(one: RLDatum) -> RLDatum:
    """As if the prompt had lost its first token between sampling and training."""
    inputs = {name: TensorData(tensor.data[1:]) for name, tensor in one.datum.loss_fn_inputs.items()}
    datum = Datum(ModelInput.from_ints(one.datum.model_input.to_ints()[1:]), inputs)
    return replace(one, datum=datum, mask=one.mask[1:], weights=one.weights[1:])


async def tempered(policy: Policy, session: SamplingSession, one: RLDatum, temperature: float) -> np.ndarray:
    """(S,), exactly: over the whole vocabulary."""
    response = await policy.backend.sampling_client.sample(
        session,
        one.sequence,
        params=SamplingParams(max_tokens=1, seed=0),
        prompt_logprobs=True,
        report=SampleReport(topk_prompt_logprobs=264),
    )
    assert response.prompt_logprobs is not None and response.topk_prompt_logprobs is not None
    scores = [score or 0.0 for score in response.prompt_logprobs[1:]]
    tops = [top or () for top in response.topk_prompt_logprobs[1:]]
    return tempered_logprobs(scores, tops, temperature=temperature)[one.mask]


async def evidence_of(
    policy: Policy,
    datums: Sequence[RLDatum],
    *,
    session: SamplingSession,
    trainer: Policy | None = None,
    temperature: float = 1.0,
) -> GapEvidence:
    """What a run gathers: `session` sampled the datums, and the policy's weights are the trainer's."""
    return await gather_evidence(
        policy.backend.sampling_client,
        datums,
        (trainer or policy).outputs(datums, "importance_sampling").loss_fn_outputs,
        session=session,
        snapshot=policy.snapshot(),
        base=policy.base(),
        temperature=temperature,
    )


def gap_of(policy: Policy, datums: Sequence[RLDatum]) -> float:
    gap = sampler_gap(datums, policy.outputs(datums, "importance_sampling").loss_fn_outputs)
    assert gap is not None
    return gap.mean


@pytest.fixture(scope="module")
def now(policy: Policy) -> SamplingSession:
    return policy.snapshot()


@pytest.fixture(scope="module")
def drawn(policy: Policy, now: SamplingSession) -> list[RLDatum]:
    return sampled(policy, now)


def test_on_policy_there_is_no_gap(policy: Policy, drawn: list[RLDatum]) -> None:
    gap = sampler_gap(drawn, policy.outputs(drawn, "importance_sampling").loss_fn_outputs)
    assert gap is not None and gap.mean < gap.largest < 1e-4
    assert gap.tokens == sum(one.mask.sum() for one in drawn)


async def test_a_sampler_that_was_kept_stale_is_caught_and_said_to_be_stale(policy: Policy) -> None:
    learner = policy.another()
    learner.learn(learner.rollouts(learner.base()))
    stale = learner.snapshot()
    learner.learn(learner.rollouts(stale))
    datums = sampled(learner, stale)
    assert gap_of(learner, datums) > LIMIT
    assert diagnose(await evidence_of(learner, datums, session=stale)).cause == "stale_weights"


async def test_a_sampling_session_on_the_base_model_is_caught_and_said_to_be_that(policy: Policy) -> None:
    base = policy.base()
    datums = sampled(policy, base)
    assert gap_of(policy, datums) > LIMIT
    assert diagnose(await evidence_of(policy, datums, session=base)).cause == "base_weights"


async def test_base_tokens_that_pass_for_the_policys_are_said_to_be_the_base_models(
    policy: Policy, now: SamplingSession
) -> None:
    datums = sampled(policy, policy.base())
    assert diagnose(await evidence_of(policy, datums, session=now)).cause == "base_weights"


async def test_a_sampler_that_reports_tempered_logprobs_is_caught_and_said_to(
    policy: Policy, now: SamplingSession, drawn: list[RLDatum]
) -> None:
    datums = [reporting(one, await tempered(policy, now, one, 0.6)) for one in drawn]
    assert gap_of(policy, datums) > LIMIT
    found = diagnose(await evidence_of(policy, datums, session=now, temperature=0.6))
    assert found.cause == "sampler_temperature" and "at temperature 0.6" in found.what


async def test_a_trainer_that_tempers_its_logits_is_said_to(
    policy: Policy, now: SamplingSession, drawn: list[RLDatum]
) -> None:
    evidence = await evidence_of(policy, drawn, session=now, temperature=0.6)
    wrong = replace(evidence, trainer=[await tempered(policy, now, one, 0.6) for one in drawn])
    assert diagnose(wrong).cause == "trainer_temperature"


@pytest.mark.parametrize("places", [1, -1])
async def test_logprobs_of_the_neighbouring_tokens_are_said_to_be_shifted(
    policy: Policy, now: SamplingSession, drawn: list[RLDatum], places: int
) -> None:
    datums = [reporting(one, np.roll(one.sampler_logprobs[one.mask], places)) for one in drawn]
    assert gap_of(policy, datums) > LIMIT
    assert diagnose(await evidence_of(policy, datums, session=now)).cause == "shifted"


async def test_a_prompt_that_changed_between_sampling_and_training_is_said_to_have(
    policy: Policy, now: SamplingSession, drawn: list[RLDatum]
) -> None:
    datums = [without_first_token(one) for one in drawn]
    assert gap_of(policy, datums) > LIMIT
    assert diagnose(await evidence_of(policy, datums, session=now)).cause == "text"


async def test_a_trainer_in_another_dtype_is_said_to_compute_other_numbers(
    policy: Policy, tiny_model: Path, tmp_path: Path
) -> None:
    learner = policy.another()
    session = learner.snapshot()
    datums = sampled(learner, session)
    with policy_on(tiny_model, tmp_path, dtype="bfloat16") as coarse:
        assert gap_of(coarse, datums) > LIMIT
        found = diagnose(await evidence_of(learner, datums, session=session, trainer=coarse))
    assert found.cause == "numerics"


async def test_in_a_coarse_dtype_noise_is_not_taken_for_another_text_nor_another_text_for_noise(
    tiny_model: Path, tmp_path: Path
) -> None:
    with policy_on(tiny_model, tmp_path, dtype="bfloat16") as coarse:
        session = coarse.snapshot()
        datums = sampled(coarse, session)
        assert gap_of(coarse, datums) > LIMIT
        assert diagnose(await evidence_of(coarse, datums, session=session)).cause == "numerics"
        changed = [without_first_token(one) for one in datums]
        assert diagnose(await evidence_of(coarse, changed, session=session)).cause == "text"


async def test_older_weights_that_were_meant_to_sample_are_no_gap(policy: Policy) -> None:
    learner = policy.another()
    earlier = learner.snapshot()
    datums = sampled(learner, earlier)
    learner.learn(learner.rollouts(earlier))
    evidence = await evidence_of(learner, datums, session=earlier)
    assert off_policy_gap(evidence) < 1e-4 < LIMIT < gap_of(learner, datums)
    shifted = replace(evidence, reported=[np.roll(row, 1) for row in evidence.reported])
    assert off_policy_gap(shifted) > LIMIT and diagnose(shifted, off_policy=True).cause == "shifted"


def made(*versions: int) -> list[RLDatum]:
    datums = assemble([group_of(*(member(1.0, tokens=2) for _ in versions))], [[1.0] * len(versions)], loss="ppo")
    return [replace(one, policy_version=version) for one, version in zip(datums, versions, strict=True)]


def off_by(datums: Sequence[RLDatum], *distances: float) -> list[dict[str, TensorData]]:
    pairs = zip(datums, distances, strict=True)
    return [{"logprobs": TensorData(one.sampler_logprobs + np.float32(distance))} for one, distance in pairs]


def test_only_tokens_of_the_trained_weights_are_compared() -> None:
    datums = made(3, 2, 3)
    outputs = off_by(datums, 0.25, 9.0, -0.75)
    gap = sampler_gap(datums, outputs, policy_version=3)
    assert gap is not None and gap.worst == (2, 0) and gap.tokens == 4
    assert gap.metrics() == {"sampler_gap/mean": pytest.approx(0.5), "sampler_gap/max": pytest.approx(0.75)}
    assert sampler_gap(datums, outputs, policy_version=4) is None


def test_tokens_that_the_trainer_did_not_score_are_not_compared() -> None:
    datums = made(0)
    assert sampler_gap(datums, [{"logprobs": TensorData(np.full(3, np.nan))}]) is None


def test_the_error_says_what_was_measured_where_and_what_to_do() -> None:
    datums = made(0)
    gap = sampler_gap(datums, off_by(datums, 0.5))
    row, other = [np.zeros(2)], [np.ones(2)]
    assert gap is not None
    found = diagnose(GapEvidence(reported=row, session=row, snapshot=other, trainer=other))
    message = str(RolloutGapError(found.problem(gap, limit=0.1, where="step 12")))
    assert message.startswith("step 12: sampler and trainer disagree") and "session-snapshot 1" in message
    assert "a gap of 0.5 nats a token over 2 tokens, and gap_limit=0.1" in message
    assert "Open a sampling session on the weights just saved" in message


def test_a_gap_that_cannot_be_looked_into_is_said_all_the_same() -> None:
    datums = made(0)
    gap = sampler_gap(datums, off_by(datums, 0.5))
    assert gap is not None
    message = str(RolloutGapError(UNDIAGNOSED.problem(gap, limit=0.1, where="step 12")))
    assert "why cannot be told" in message and "a gap of 0.5 nats a token" in message and "distances" not in message


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=12), st.sampled_from([0.3, 0.7, 1.0, 1.5]))
def test_over_a_whole_vocabulary_tempered_logprobs_are_those_of_tempered_logits(
    logits: list[float], temperature: float
) -> None:
    plain = np.array(logits) - np.logaddexp.reduce(logits)
    expected = np.array(logits) / temperature - np.logaddexp.reduce(np.array(logits) / temperature)
    top = tuple(sorted(enumerate(plain.tolist()), key=lambda one: -one[1]))
    found = tempered_logprobs(plain, [top] * len(logits), temperature=temperature)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.4])
def test_the_mass_beyond_the_likeliest_tokens_is_reckoned_with(temperature: float) -> None:
    logits = -0.04 * np.arange(2000)
    plain, hot = (x - np.logaddexp.reduce(x) for x in (logits, logits / temperature))
    (found,) = tempered_logprobs(plain[:1], [tuple(enumerate(plain[:20].tolist()))], temperature=temperature)
    assert found == pytest.approx(hot[0], abs=0.02)
