"""Are the numbers of a step what they say, over the right denominators, and never NaN?"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_groups import Policy, action, all_finite, group_of, member, rewarded, turn

from crucible.errors import PortError
from crucible.ports.datum import TensorData
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.assembly import RLDatum, assemble
from crucible.train.rl.rl_metrics import learning_metrics, rollout_metrics
from crucible.train.rl.types import GroupReward, Trajectory, TrajectoryGroup

REWARDS = st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), min_size=1, max_size=4), max_size=5)


def datums_of(*lengths: int, version: int = 0, advantage: float = 1.0) -> list[RLDatum]:
    groups = [group_of(*(member(1.0, tokens=count) for count in lengths))]
    found = assemble(groups, [[advantage] * len(lengths)], loss="ppo")
    return [replace(one, policy_version=version) for one in found]


def drifted(datums: list[RLDatum], *drifts: list[float]) -> list[dict[str, TensorData]]:
    """Outputs whose sampled tokens have logprobs this far above the sampler's."""
    outputs: list[dict[str, TensorData]] = []
    for one, drift in zip(datums, drifts, strict=True):
        logprobs = np.full(one.mask.shape, -7.0)
        logprobs[one.mask] = one.sampler_logprobs[one.mask] + np.array(drift)
        outputs.append({"logprobs": TensorData(logprobs)})
    return outputs


def test_rewards_are_over_the_members_that_have_one() -> None:
    found = rollout_metrics([rewarded(1.0, 0.0, None), rewarded(1.0, None, None, index=1)])
    assert found["reward/mean"] == pytest.approx(2 / 3)
    assert (found["members"], found["members_scored"], found["verdicts_timed_out"]) == (6, 3, 3)


def test_a_tags_reward_is_over_its_own_groups() -> None:
    groups = [
        rewarded(1.0, 0.0, tags=["sums", "easy"]),
        rewarded(1.0, 1.0, 1.0, 0.0, index=1, tags=["sums"]),
        rewarded(None, None, index=2, tags=["hard"]),
    ]
    found = rollout_metrics(groups)
    assert found["reward/easy/mean"] == 0.5 and found["reward/sums/mean"] == pytest.approx(4 / 6)
    assert found["reward/sums/members"] == 6 and not any("hard" in key for key in found)


def test_the_standard_error_is_that_of_groups_since_members_share_a_problem() -> None:
    groups = [rewarded(*[float(index % 2)] * 8, index=index) for index in range(4)]
    assert rollout_metrics(groups)["reward/stderr"] == pytest.approx(np.std([0, 1, 0, 1], ddof=1) / math.sqrt(4))
    assert "reward/stderr" not in rollout_metrics(groups[:1])


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
def test_with_one_member_a_group_the_standard_error_is_the_means(rewards: list[float]) -> None:
    found = rollout_metrics([rewarded(reward, index=index) for index, reward in enumerate(rewards)])
    assert found["reward/stderr"] == pytest.approx(np.std(rewards, ddof=1) / math.sqrt(len(rewards)), abs=1e-9)


def test_groups_are_told_apart_by_whether_they_teach_anything() -> None:
    groups = [rewarded(1.0, 0.0), rewarded(1.0, 1.0), rewarded(0.0, 0.0, None), rewarded(1.0, None)]
    found = rollout_metrics(groups)
    assert (found["groups"], found["groups_constant"], found["groups_unscored"]) == (4, 2, 1)
    shares = [found[f"by_group/frac_{name}"] for name in ("mixed", "all_good", "all_bad")]
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_what_failed_was_cut_off_or_not_graded_is_counted() -> None:
    judged = group_of(member(1.0), member(0.0, ended="cut"), member(0.0, failed=True), member(None))
    judged = replace(
        judged, group_rewards=(GroupReward(verdict=Verdict.invalid("it raised")), *judged.group_rewards[1:])
    )
    found = rollout_metrics([judged])
    assert (found["members_failed"], found["truncated"]) == (1, 0.25)
    assert (found["verdicts"], found["verdicts_invalid"], found["verdicts_timed_out"]) == (2, 1, 1)


def test_turns_and_tokens_are_counted() -> None:
    first = turn([1, 2, 3], action([4]), last=False)
    long = Trajectory(transitions=(first, turn([1, 2, 3, 4, 5], action([6, 7, 8]))), ended="done")
    found = rollout_metrics([group_of(long, member(1.0, tokens=2))])
    assert (found["turns_per_episode"], found["total_ac_tokens"]) == (1.5, 6)
    assert (found["ac_tokens_per_turn"], found["ob_tokens_per_turn"]) == (2, pytest.approx(10 / 3))


def test_an_environments_metric_is_averaged_over_the_members_that_report_it() -> None:
    first = turn([1], action([4]), last=False, metrics={"format": 0.0})
    long = Trajectory(transitions=(first, turn([1, 4, 5], action([6]), metrics={"format": 1.0})), ended="done")
    failed = member(0.0, failed=True, metrics={"format": 9.0})
    found = rollout_metrics([group_of(long, member(1.0, metrics={"format": 1.0}), member(0.0), failed)])
    assert found["env/format"] == 0.75


def test_a_metric_that_is_no_number_is_counted_and_not_averaged() -> None:
    found = rollout_metrics([group_of(member(1.0, metrics={"speed": math.nan}), member(0.0, metrics={"speed": 2.0}))])
    assert (found["env/speed"], found["env_metrics_not_finite"]) == (2.0, 1.0)


@given(REWARDS, st.randoms())
def test_metrics_are_finite_and_in_one_order(rewards: list[list[float | None]], random) -> None:
    tags = ["a", "b", "c"]
    groups = [rewarded(*one, index=index, tags=random.sample(tags, 2)) for index, one in enumerate(rewards)]
    found = rollout_metrics(groups)
    again = rollout_metrics([replace(group, tags=group.tags[::-1]) for group in groups])
    tagged = [key for key in found if key.startswith("reward/") and key.endswith("/mean") and key != "reward/mean"]
    assert all_finite(found) and json.dumps(found) == json.dumps(again) and tagged == sorted(tagged)


def test_entropy_is_over_every_token_that_was_sampled_whether_it_is_trained_on_or_not() -> None:
    found = rollout_metrics([group_of(member(1.0, tokens=2), member(None, tokens=1))])
    assert found["entropy"] == pytest.approx((0.5 + 0.625 + 0.5) / 3)


def test_divergence_is_over_sampled_tokens() -> None:
    datums = datums_of(2, 1)
    found = learning_metrics(datums, drifted(datums, [0.5, -0.25], [0.0]), loss="importance_sampling")
    assert found["tokens_scored"] == 3
    assert found["kl_sample_train"] == pytest.approx(-0.25 / 3)
    assert found["kl_sample_train_v2"] == pytest.approx(0.5 * (0.25 + 0.0625) / 3)
    assert found["ratio/mean"] == pytest.approx((math.exp(0.5) + math.exp(-0.25) + 1) / 3)
    assert "ratio/clipped" not in found


@pytest.mark.parametrize(
    ("loss", "advantage", "clipped"),
    [("ppo", 1.0, 0.25), ("ppo", -1.0, 0.5), ("cispo", 1.0, 0.25), ("gspo", 1.0, 0.0), ("gspo", -1.0, 1.0)],
)
def test_a_token_is_clipped_where_the_loss_stops_its_gradient_or_bounds_its_ratio(
    loss: str, advantage: float, clipped: float
) -> None:
    datums = datums_of(4, advantage=advantage)
    outputs = drifted(datums, [2.0, -1.0, -3.0, 0.0])
    assert learning_metrics(datums, outputs, loss=loss)["ratio/clipped"] == clipped


def test_given_thresholds_are_the_ones_that_are_counted_by() -> None:
    datums = datums_of(2)
    outputs = drifted(datums, [0.25, 0.1])
    config = {"clip_high_threshold": 1.28}
    assert learning_metrics(datums, outputs, loss="ppo")["ratio/clipped"] == 0.5
    assert (
        learning_metrics(datums, outputs, loss="ppo", loss_config={"clip_high_threshold": 1.29})["ratio/clipped"] == 0
    )
    assert learning_metrics(datums, outputs, loss="ppo", loss_config=config)["ratio/clipped"] == 0.5


def test_staleness_is_how_many_steps_old_the_sampling_weights_are_where_known() -> None:
    datums = [*datums_of(1, version=5), *datums_of(1, version=7), *datums_of(1, version=-1)]
    outputs = drifted(datums, [0.0], [0.0], [0.0])
    found = learning_metrics(datums, outputs, loss="ppo", policy_version=8)
    assert (found["staleness/mean"], found["staleness/max"]) == (2.0, 3.0)
    assert not any(
        "staleness" in key for key in learning_metrics(datums[2:], outputs[2:], loss="ppo", policy_version=8)
    )


def test_tokens_without_a_loss_may_have_no_logprob_and_others_must() -> None:
    datums = [*datums_of(2, advantage=0.0), *datums_of(1)]
    unscored = {"logprobs": TensorData(np.array([np.nan] * 3))}
    found = learning_metrics(datums, [unscored, *drifted(datums[1:], [0.0])], loss="ppo")
    assert found["tokens_scored"] == 1 and all_finite(found)
    with pytest.raises(PortError, match="rollout 0/0/0 that was trained on has no finite logprob"):
        learning_metrics(datums_of(2), [unscored], loss="ppo")


@pytest.mark.parametrize("loss", ["ppo", "gspo", "cispo", "dro", "importance_sampling"])
def test_metrics_stay_finite_where_a_ratio_is_beyond_all_numbers_and_where_there_is_no_datum(loss: str) -> None:
    datums = datums_of(1)
    assert all_finite(learning_metrics(datums, drifted(datums, [5000.0]), loss=loss))
    assert learning_metrics([], [], loss=loss) == {"tokens_scored": 0.0}


def test_on_policy_the_real_engines_ratio_is_one(policy: Policy, rollouts: list[TrajectoryGroup]) -> None:
    datums = assemble(rollouts, [[1.0, -0.5, -0.5]] * len(rollouts), loss="gspo")
    outputs = policy.outputs(datums, "gspo").loss_fn_outputs
    found = learning_metrics(datums, outputs, loss="gspo", policy_version=datums[0].policy_version)
    assert found["ratio/mean"] == pytest.approx(1, abs=1e-4) and found["ratio/clipped"] == 0
    assert abs(found["kl_sample_train"]) < 1e-4 and found["staleness/max"] == 0
