"""Are advantages what the papers say, of the scored members of a group alone?"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_groups import rewarded

from crucible.errors import DataError
from crucible.train.rl.advantages import AdvantageKind, advantages

KINDS: tuple[AdvantageKind, ...] = ("group_mean", "group_mean_std", "leave_one_out")
REWARDS = st.lists(st.floats(-100, 100), min_size=2, max_size=9)
kinds = st.sampled_from(KINDS)


def of(*rewards: float | None, kind: AdvantageKind = "group_mean") -> list[float | None]:
    return advantages([rewarded(*rewards)], kind=kind)[0]


@given(REWARDS, kinds)
def test_the_advantages_of_a_group_sum_to_zero(rewards: list[float], kind: AdvantageKind) -> None:
    found = [one for one in of(*rewards, kind=kind) if one is not None]
    assert abs(math.fsum(found)) <= 1e-12 * (1 + math.fsum(map(abs, found)) + max(map(abs, rewards)))


@given(st.floats(-1e6, 1e6), st.integers(2, 9), kinds)
def test_equal_rewards_give_exactly_zero(reward: float, count: int, kind: AdvantageKind) -> None:
    assert of(*[reward] * count, kind=kind) == [0.0] * count


@given(REWARDS, kinds, st.randoms())
def test_the_order_of_members_changes_no_bit(rewards: list[float], kind: AdvantageKind, random) -> None:
    order = list(range(len(rewards)))
    random.shuffle(order)
    plain = of(*rewards, kind=kind)
    assert of(*[rewards[place] for place in order], kind=kind) == [plain[place] for place in order]


@given(REWARDS, kinds, st.integers(0, 9))
def test_a_member_without_a_reward_is_as_if_it_were_not_there(
    rewards: list[float], kind: AdvantageKind, place: int
) -> None:
    place = min(place, len(rewards))
    plain = of(*rewards, kind=kind)
    assert of(*rewards[:place], None, *rewards[place:], kind=kind) == [*plain[:place], None, *plain[place:]]


@given(REWARDS, kinds, st.lists(REWARDS, max_size=2))
def test_a_group_knows_nothing_of_the_others(
    rewards: list[float], kind: AdvantageKind, others: list[list[float]]
) -> None:
    groups = [rewarded(*rewards), *(rewarded(*other) for other in others)]
    assert advantages(groups, kind=kind)[0] == of(*rewards, kind=kind)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8), kinds, st.integers(-1000, 1000))
def test_a_constant_added_to_every_reward_changes_nothing(
    rewards: list[int], kind: AdvantageKind, constant: int
) -> None:
    assert of(*[float(one + constant) for one in rewards], kind=kind) == of(*map(float, rewards), kind=kind)


def test_the_three_kinds_are_as_they_are_written() -> None:
    assert of(1.0, 0.0, 0.0, 0.0) == [0.75, -0.25, -0.25, -0.25]
    assert of(1.0, 0.0, 0.0, 0.0, kind="leave_one_out") == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    assert of(1.0, 0.0, 0.0, 0.0, kind="group_mean_std") == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-5)


def test_rounding_in_equal_rewards_is_not_blown_up_to_a_signal() -> None:
    assert of(0.1 + 0.2, 0.3, kind="group_mean_std") == pytest.approx([0.0, 0.0], abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_scored_member_has_nothing_to_be_compared_with(kind: AdvantageKind) -> None:
    assert of(1.0, None, kind=kind) == [None, None]
    assert of(None, None, kind=kind) == [None, None]


def test_shaping_is_added_to_rewards_before_they_are_compared() -> None:
    assert advantages([rewarded(1.0, 1.0, None)], kind="group_mean", shaping=[[0.0, -0.5, 0.0]]) == [
        [0.25, -0.25, None]
    ]


def test_every_reward_that_is_no_number_is_named() -> None:
    groups = [rewarded(1.0, math.nan), rewarded(math.inf, 0.0, index=4)]
    with pytest.raises(DataError, match=r"(?s)group 0 \(row 0\), member 1.*nan.*group 4 \(row 4\), member 0.*inf"):
        advantages(groups, kind="group_mean")
