"""Is everything that a step does not train on counted, under the right reason?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_groups import group_of, member, rewarded

from crucible.train.rl.advantages import advantages
from crucible.train.rl.selection import Selection, groups_wanted, mask_truncated, select
from crucible.train.rl.types import TrajectoryGroup


def selected(*groups: TrajectoryGroup, remove: bool = True, overlong: bool = False) -> Selection:
    own = advantages(groups, kind="group_mean")
    return select(groups, mask_truncated(groups, own) if overlong else own, remove_constant_reward_groups=remove)


def test_groups_of_equal_rewards_are_removed_and_counted() -> None:
    found = selected(rewarded(1.0, 1.0), rewarded(1.0, 0.0, index=1), rewarded(0.0, None, 0.0, index=2))
    assert [group.index for group in found.groups] == [1]
    assert found.removed == {"unscored": 0, "constant": 2, "truncated": 0, "empty": 0}


def test_groups_of_equal_rewards_stay_where_they_are_not_to_be_removed() -> None:
    assert selected(rewarded(1.0, 1.0), remove=False).advantages == ([0.0, 0.0],)


def test_nothing_is_kept_where_every_reward_is_equal() -> None:
    assert selected(rewarded(1.0, 1.0), rewarded(0.0, 0.0)).groups == ()


@pytest.mark.parametrize("remove", [True, False])
def test_a_group_without_a_baseline_is_removed_whatever_is_asked(remove: bool) -> None:
    found = selected(rewarded(1.0, None), rewarded(None, None), remove=remove)
    assert found.groups == () and found.removed["unscored"] == 2


def test_overlong_filtering_takes_the_loss_and_leaves_the_baseline() -> None:
    found = selected(group_of(member(1.0), member(0.0, ended="cut"), member(0.0)), overlong=True)
    assert found.advantages == ([pytest.approx(2 / 3), None, pytest.approx(-1 / 3)],)
    assert found.left_out == (("", "cut off", ""),)


def test_a_group_whose_every_member_was_cut_off_is_counted_as_truncated() -> None:
    found = selected(group_of(member(1.0, ended="cut"), member(0.0, ended="context")), overlong=True)
    assert found.groups == () and found.removed["truncated"] == 1


def test_each_member_that_is_left_out_has_its_reason() -> None:
    mixed = group_of(member(1.0), member(0.0), member(None), member(0.0, failed=True), member(0.5, tokens=0))
    found = selected(mixed, rewarded(1.0, 1.0), rewarded(1.0, None))
    assert found.left_out == (
        ("", "", "no score", "rollout failed", "no tokens"),
        ("equal rewards", "equal rewards"),
        ("no other reward in its group", "no score"),
    )


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=4), max_size=6), st.booleans())
def test_every_group_is_kept_or_counted_once(rewards: list[list[float | None]], remove: bool) -> None:
    groups = [rewarded(*one, index=index) for index, one in enumerate(rewards)]
    found = selected(*groups, remove=remove)
    assert len(found.groups) + sum(found.removed.values()) == len(groups)
    assert [("" in reasons) for reasons in found.left_out] == [group in found.groups for group in groups]
    assert found.metrics()["members_trained"] == sum(one is not None for own in found.advantages for one in own)


@given(st.integers(0, 20), st.integers(0, 40), st.integers(0, 60))
def test_dynamic_sampling_draws_what_is_missing_and_never_beyond_its_limit(kept: int, more: int, limit: int) -> None:
    drawn = kept + more
    wanted = groups_wanted(kept, target=8, drawn=drawn, limit=limit)
    assert kept + wanted <= max(8, kept) and drawn + wanted <= max(limit, drawn)
    assert kept + wanted >= 8 or drawn + wanted >= limit
