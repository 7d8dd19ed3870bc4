"""Do penalties fall on sampled tokens alone, as they are written?"""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_groups import Policy, group_of, member

from crucible.errors import ConfigError, PortError
from crucible.train.rl.assembly import LengthNorm, RLDatum, assemble
from crucible.train.rl.penalties import aligned, kl_penalty, overlong_penalties
from crucible.train.rl.types import TrajectoryGroup

LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def datums_of(*lengths: int, length_norm: LengthNorm = "none") -> list[RLDatum]:
    groups = [group_of(*(member(1.0, tokens=count) for count in lengths))]
    return assemble(groups, [[0.5] * len(lengths)], loss="ppo", length_norm=length_norm)


def drawn_reference(datums: list[RLDatum], seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [-draw.exponential(size=one.mask.shape) for one in datums]


def test_the_penalty_is_the_fields_formula() -> None:
    datums = datums_of(2, 1)
    reference = [np.array([9.0, -1.5, -0.125]), np.array([9.0, -0.5])]
    found = kl_penalty(datums, reference, coef=0.1)
    differences = [np.array([1.0, -0.5]), np.array([0.0])]
    mean = (1.0 - 0.5 + 0.0) / 3
    assert found.kl == pytest.approx(mean) and found.metrics() == {"kl_policy_base": found.kl}
    for one, difference in zip(found.datums, differences, strict=True):
        assert one.advantages[one.mask] == pytest.approx(0.5 + 0.1 * (mean - difference))


@given(LENGTHS, st.floats(0, 1), st.integers(0, 99))
def test_penalties_of_a_batch_sum_to_zero_and_leave_prompts_alone(lengths: list[int], coef: float, seed: int) -> None:
    datums = datums_of(*lengths)
    found = kl_penalty(datums, drawn_reference(datums, seed), coef=coef)
    added = [new.advantages - old.advantages for new, old in zip(found.datums, datums, strict=True)]
    assert sum(float(one.sum()) for one in added) == pytest.approx(0, abs=1e-5)
    assert not any(one.advantages[~one.mask].any() for one in found.datums)


@given(LENGTHS, st.sampled_from(["sequence", "batch"]))
def test_a_penalty_is_weighed_as_the_advantages_are(lengths: list[int], length_norm: LengthNorm) -> None:
    plain, normed = datums_of(*lengths), datums_of(*lengths, length_norm=length_norm)
    reference = drawn_reference(plain)
    whole, weighed = (kl_penalty(one, reference, coef=0.3).datums for one in (plain, normed))
    for one, other in zip(whole, weighed, strict=True):
        assert other.advantages == pytest.approx(one.advantages * other.weights, abs=1e-6)


@given(LENGTHS)
def test_a_reference_that_is_the_policy_changes_nothing(lengths: list[int]) -> None:
    datums = datums_of(*lengths)
    found = kl_penalty(datums, [one.sampler_logprobs for one in datums], coef=1.0)
    assert found.kl == 0 and [one.datum for one in found.datums] == [one.datum for one in datums]


def test_with_a_discount_a_token_answers_for_those_after_it_and_no_prompt_does() -> None:
    datums = datums_of(3)
    reference = [np.array([0.0, -1.5, -0.625, -0.75])]
    plain = kl_penalty(datums, reference, coef=1.0).datums[0].advantages - 0.5
    (found,) = kl_penalty(datums, reference, coef=1.0, discount=0.5).datums
    assert found.advantages[0] == 0
    expected = [plain[1] + 0.5 * plain[2] + 0.25 * plain[3], plain[2] + 0.5 * plain[3], plain[3]]
    assert found.advantages[1:] - 0.5 == pytest.approx(expected, abs=1e-6)


def test_the_base_model_as_the_reference_gives_the_kl_of_the_policy_that_moved_away(
    policy: Policy, rollouts: list[TrajectoryGroup]
) -> None:
    async def scored(datums: list[RLDatum]) -> list[np.ndarray]:
        client, base = policy.backend.sampling_client, policy.base()
        return [aligned(await client.compute_logprobs(base, one.sequence)) for one in datums]

    datums = assemble(rollouts, [[1.0] * 3] * len(rollouts), loss="ppo")
    reference = asyncio.run(scored(datums))
    differences = [(one.sampler_logprobs - ref)[one.mask] for one, ref in zip(datums, reference, strict=True)]
    found = kl_penalty(datums, reference, coef=0.1)
    assert found.kl == pytest.approx(float(np.concatenate(differences).mean())) and found.kl > 0.01


def test_no_datum_has_no_kl() -> None:
    assert kl_penalty([], [], coef=0.1).metrics() == {}


def test_a_penalty_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)kl_coef: is not a finite.*kl_discount: is not between 0 and 1"):
        kl_penalty([], [], coef=-1.0, discount=2.0)
    with pytest.raises(PortError, match="not finite for a token of rollout 0/0/0"):
        kl_penalty(datums_of(1), [np.array([0.0, np.nan])], coef=0.1)
    with pytest.raises(PortError, match="asked for and not given"):
        aligned([None, -1.0, None])


def test_overlong_answers_are_punished_as_dapo_has_it() -> None:
    lengths = (3, 4, 6, 8, 9)
    found = overlong_penalties([group_of(*(member(1.0, tokens=count) for count in lengths))], max_tokens=8, buffer=4)
    assert found == [[0.0, 0.0, -0.5, -1.0, -1.0]]
    with pytest.raises(ConfigError, match="overlong_buffer: is not between 1 and max_tokens"):
        overlong_penalties([], max_tokens=8, buffer=9)
