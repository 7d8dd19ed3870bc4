"""Do trajectories become datums token for token, with nothing on what was not sampled?"""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_groups import action, group_of, member, rewarded, turn

from crucible.engine.losses import LOSSES
from crucible.engine.rows import rows_of
from crucible.errors import ConfigError, DataError, PortError, UnsupportedError
from crucible.ports.datum import ImageChunk, ModelInput
from crucible.train.rl.assembly import LengthNorm, RLDatum, assemble, check_length_norm
from crucible.train.rl.policy_losses import POLICY_LOSSES
from crucible.train.rl.types import Trajectory, Transition


def played(*turns: Transition) -> Trajectory:
    return Trajectory(transitions=turns, ended="done")


def datums_of(trajectory: Trajectory, advantage: float = 1.0, loss: str = "importance_sampling") -> list[RLDatum]:
    return assemble([group_of(trajectory)], [[advantage]], loss=loss)


def test_a_turn_is_one_datum_shifted_by_one_with_zeros_on_its_prompt() -> None:
    (one,) = datums_of(played(turn([5, 6], action([7, 8], [-0.5, -0.25]))), advantage=-2.0)
    assert one.datum.model_input.to_ints() == [5, 6, 7] and one.sequence.to_ints() == [5, 6, 7, 8]
    assert {name: tensor.tolist() for name, tensor in one.datum.loss_fn_inputs.items()} == {
        "target_tokens": [6, 7, 8],
        "logprobs": [0.0, -0.5, -0.25],
        "advantages": [0.0, -2.0, -2.0],
    }
    assert one.mask.tolist() == [False, True, True]


def test_turns_that_continue_the_text_are_one_datum_and_their_answers_prompt() -> None:
    first = turn([5], action([6, 7], [-1, -2]), last=False)
    (one,) = datums_of(played(first, turn([5, 6, 7, 9], action([4], [-3]))))
    assert one.sequence.to_ints() == [5, 6, 7, 9, 4] and one.turns == (0, 1)
    assert one.sampler_logprobs.tolist() == [-1.0, -2.0, 0.0, -3.0]
    assert one.mask.tolist() == [True, True, False, True]


def test_a_turn_that_saw_another_text_begins_a_new_datum() -> None:
    first = turn([5], action([6, 7]), last=False)
    one, other = datums_of(played(first, turn([5, 7, 9], action([4]))))
    assert (one.part, one.turns, one.sequence.to_ints()) == (0, (0,), [5, 6, 7])
    assert (other.part, other.turns, other.sequence.to_ints()) == (1, (1,), [5, 7, 9, 4])
    assert other.mask.tolist() == [False, False, True]


@st.composite
def episodes(draw: st.DrawFn) -> Trajectory:
    """Turns that sometimes continue what was there, and sometimes see something else."""
    tokens = st.lists(st.integers(0, 3), max_size=3)
    seen, turns = [1], list[Transition]()
    for number in range(draw(st.integers(1, 5))):
        seen = [*(seen if draw(st.booleans()) else draw(tokens)), draw(st.integers(0, 3)), *draw(tokens)]
        acted = action(draw(tokens), version=number)
        turns.append(turn(seen, acted, last=False))
        seen = [*seen, *acted.tokens]
    return played(*turns)


@given(episodes())
def test_every_sampled_token_is_a_target_once_in_order_with_its_own_logprob(trajectory: Trajectory) -> None:
    found = datums_of(trajectory)
    targets = [one.datum.loss_fn_inputs["target_tokens"].data[one.mask] for one in found]
    logprobs = [one.sampler_logprobs[one.mask] for one in found]
    actions = [one.action for one in trajectory.transitions]
    assert [int(token) for part in targets for token in part] == [t for one in actions for t in one.tokens]
    assert [float(q) for part in logprobs for q in part] == [q for one in actions for q in one.logprobs]


@given(episodes())
def test_every_sampled_token_is_predicted_from_the_very_tokens_it_was_sampled_after(trajectory: Trajectory) -> None:
    contexts = [
        one.sequence.to_ints()[: place + 1] for one in datums_of(trajectory) for place in np.flatnonzero(one.mask)
    ]
    assert contexts == [
        [*one.observation.to_ints(), *one.action.tokens[:place]]
        for one in trajectory.transitions
        for place in range(len(one.action.tokens))
    ]


@given(episodes(), st.sampled_from(sorted(POLICY_LOSSES)), st.floats(-3, 3))
def test_what_was_not_sampled_has_zeros_everywhere_and_the_engine_takes_it(
    trajectory: Trajectory, loss: str, advantage: float
) -> None:
    found = datums_of(trajectory, advantage, loss)
    for one in found:
        assert not any(
            tensor.data[~one.mask].any() for name, tensor in one.datum.loss_fn_inputs.items() if name != "target_tokens"
        )
    rows = rows_of([one.datum for one in found], LOSSES[loss], vocab_size=264, context_length=None)
    assert all(not row.active[~one.mask].any() for row, one in zip(rows, found, strict=True))


@given(episodes())
def test_no_part_continues_the_one_before_it(trajectory: Trajectory) -> None:
    empty = any(not turn.action.tokens for turn in trajectory.transitions)
    for one, other in pairwise(datums_of(trajectory)):
        before, seen = one.sequence.to_ints(), trajectory.transitions[other.turns[0]].observation.to_ints()
        assert empty or seen[: len(before)] != before


def test_a_member_without_an_advantage_has_no_datum_and_the_others_keep_their_places() -> None:
    found = assemble([rewarded(1.0, None, 0.0, index=7)], [[0.5, None, -0.5]], loss="ppo")
    assert [one.place for one in found] == ["7/0/0", "7/2/0"]


def test_a_datum_is_as_old_as_the_oldest_weights_that_sampled_in_it() -> None:
    first = turn([5], action([6], version=3), last=False)
    (one,) = datums_of(played(first, turn([5, 6, 7], action([4], version=4))))
    assert one.policy_version == 3


@pytest.mark.parametrize(
    ("length_norm", "sums"), [("none", [2, 6]), ("sequence", [1, 1]), ("batch", [0.5, 1.5]), ("constant", [0.25, 0.75])]
)
def test_a_members_weights_sum_to_what_its_length_norm_says(length_norm: LengthNorm, sums: list[float]) -> None:
    groups = [group_of(member(1.0, tokens=2), member(0.0, tokens=6))]
    found = assemble(groups, [[1.0, -1.0]], loss="ppo", length_norm=length_norm, max_tokens=8)
    assert [float(one.weights.sum()) for one in found] == pytest.approx(sums)
    assert [float(one.advantages.sum()) for one in found] == pytest.approx([sums[0], -sums[1]])


def test_a_member_of_several_parts_is_weighed_by_all_its_tokens() -> None:
    split = played(turn([5], action([6, 7]), last=False), turn([9], action([4, 4])))
    found = assemble([group_of(split)], [[1.0]], loss="ppo", length_norm="sequence")
    assert [one.weights[one.mask].tolist() for one in found] == [[0.25, 0.25], [0.25, 0.25]]


@given(st.lists(episodes(), min_size=1, max_size=4), st.sampled_from(["none", "sequence", "constant"]))
def test_groups_that_come_one_by_one_give_the_datums_of_all_at_once(
    trajectories: list[Trajectory], length_norm: LengthNorm
) -> None:
    groups = [group_of(one, index=index) for index, one in enumerate(trajectories)]
    own = [[float(index)] for index, _ in enumerate(groups)]
    whole = assemble(groups, own, loss="gspo", length_norm=length_norm, max_tokens=7)
    parts = [
        one
        for group, advantage in zip(groups, own, strict=True)
        for one in assemble([group], [advantage], loss="gspo", length_norm=length_norm, max_tokens=7)
    ]
    assert [(one.place, one.datum) for one in whole] == [(one.place, one.datum) for one in parts]


def test_a_length_norm_that_cannot_weigh_the_loss_is_refused_at_plan_time() -> None:
    with pytest.raises(ConfigError, match="length_norm: loss=dro has a term that the advantages do not weigh"):
        check_length_norm(loss="dro", length_norm="batch", max_tokens=None)
    with pytest.raises(ConfigError, match="max_tokens: length_norm=constant divides by max_tokens"):
        check_length_norm(loss="ppo", length_norm="constant", max_tokens=None)


def test_every_turn_with_an_empty_observation_is_named() -> None:
    groups = [
        group_of(played(turn([], action([6]))), played(turn([5], action([6]), last=False), turn([], action([6]))))
    ]
    with pytest.raises(DataError, match=r"(?s)member 0, turn 0: the observation is empty.*member 1, turn 1"):
        assemble(groups, [[1.0, -1.0]], loss="ppo")


def test_a_logprob_that_is_not_finite_is_the_samplers_failure_and_its_turn_is_named() -> None:
    with pytest.raises(PortError, match=r"not finite \(group 0, member 0, turn 0\)"):
        datums_of(played(turn([5], action([6], [-math.inf]))))


def test_an_observation_with_an_image_is_refused_by_name() -> None:
    shown = Transition(
        observation=ModelInput((ImageChunk(b"", "png", expected_tokens=4),)),
        action=action([6]),
        result=turn([5], action([6])).result,
    )
    with pytest.raises(UnsupportedError, match="group 0, member 0, turn 0: the observation holds an image"):
        datums_of(played(shown))
