"""How did the rollouts of a step go, and what did training on them look like? Numbers for `metrics.jsonl`.

Every number is finite and follows from the rollouts alone; what cannot be said (the mean of nothing) has no key. The
order of keys is fixed. Names are tinker-cookbook's where it has one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crucible.errors import PortError
from crucible.ports.datum import TensorData
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.assembly import RLDatum
from crucible.train.rl.policy_losses import HIGH, LOW, policy_loss
from crucible.train.rl.selection import is_constant, is_scored, is_truncated
from crucible.train.rl.types import Trajectory, TrajectoryGroup

GOOD = 0.5
"""A group whose members all earned at least this is `by_group/frac_all_good`, as in the field."""


def rollout_metrics(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Of all groups that were rolled out, before any is removed: give all of them, or the denominators lie.

    reward/mean, reward/stderr: over members with a reward; `reward/TAG/mean`, `reward/TAG/stderr`, `reward/TAG/members`
        of each tag's groups. Members of a group answer the same problem, so the standard error is that of groups drawn
        (cluster-robust), not of members; it needs two groups.
    groups, groups_unscored (fewer than two rewards), groups_constant (equal rewards); by_group/frac_mixed,
        frac_all_good, frac_all_bad: shares of the groups with a baseline.
    members, members_scored, members_failed (of their rollout); verdicts, verdicts_invalid, verdicts_timed_out.
    truncated: share of members cut off; turns_per_episode, ac_tokens_per_turn, ob_tokens_per_turn; total_ac_tokens.
    entropy: mean of -q over all sampled tokens, in nats: an estimate of the sampling policy's where the temperature
        is 1.
    env/NAME: of the environments' own metrics, over the members that report it and did not fail.
    """
    trajectories = [trajectory for group in groups for trajectory in group.trajectories]
    return {
        **_rewards(groups),
        **_group_counts(groups),
        "members": float(len(trajectories)),
        "members_scored": float(sum(reward is not None for group in groups for reward in group.rewards)),
        "members_failed": float(sum(trajectory.failure is not None for trajectory in trajectories)),
        **_verdict_counts([verdict for group in groups for verdict in _verdicts(group)]),
        **_episodes(trajectories),
        **_environments(groups),
    }


def learning_metrics(
    datums: Sequence[RLDatum],
    outputs: Sequence[Mapping[str, TensorData]],
    *,
    loss: str,
    loss_config: Mapping[str, float] | None = None,
    policy_version: int | None = None,
) -> dict[str, float]:
    """Of one `forward_backward` over the datums, or of several of one optimizer step together.

    Over the sampled tokens whose logprob the backend computed (with `logprobs="weighted"`: those with a loss), of
    which there are tokens_scored. With l the trainer's logprob and q the sampler's: kl_sample_train: mean of q - l;
    kl_sample_train_v2: half the mean of (q - l)^2. ratio/mean: of exp(l - q), of gspo the sequence's. ratio/clipped:
    share of tokens where the loss's clip acts (ppo and gspo: the gradient is stopped; cispo: the ratio is bounded).
    staleness/mean, staleness/max: over datums, optimizer steps between the weights that sampled and `policy_version`,
    those that are trained.

    loss_config: what is given beside the loss's defaults.

    Raises:
        PortError: if a token that was trained on has no finite logprob.
    """
    tokens = [_Tokens.of(datum, output) for datum, output in zip(datums, outputs, strict=True)]
    drift = _joined([one.drift for one in tokens])
    metrics: dict[str, float] = {"tokens_scored": float(len(drift))}
    if len(drift):
        metrics["kl_sample_train"] = float(-drift.mean())
        metrics["kl_sample_train_v2"] = float(0.5 * np.square(drift).mean())
        metrics |= _ratios(tokens, loss=loss, given=loss_config or {})
    return {**metrics, **_staleness(datums, policy_version)}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tokens:
    """The S sampled tokens of a datum whose trainer's logprob is known: l - q and advantages, each (S,)."""

    drift: NDArray[np.float64]
    advantages: NDArray[np.float64]

    @classmethod
    def of(cls, datum: RLDatum, output: Mapping[str, TensorData]) -> "_Tokens":
        trainer = output["logprobs"].data.astype(np.float64)
        assert trainer.shape == datum.mask.shape, "one logprob per target"
        known = np.isfinite(trainer)
        if (datum.mask & ~known & (datum.advantages != 0)).any():
            what = f"a token of rollout {datum.place} that was trained on has no finite logprob"
            raise PortError(what, port="training_client", adapter="unnamed")
        counted = datum.mask & known
        return cls(
            drift=trainer[counted] - datum.sampler_logprobs[counted],
            advantages=datum.advantages[counted].astype(np.float64),
        )


def _ratios(tokens: Sequence[_Tokens], *, loss: str, given: Mapping[str, float]) -> dict[str, float]:
    facts = policy_loss(loss)
    config = {**facts.config, **given}
    drifts = [
        np.full(one.drift.shape, one.drift.mean()) if facts.per_sequence and len(one.drift) else one.drift
        for one in tokens
    ]
    with np.errstate(over="ignore"):
        ratio = np.exp(_joined(drifts))
    metrics: dict[str, float] = {}
    if math.isfinite(mean := float(ratio.mean())):  # beyond float64 there is no mean, and the drift tells it all
        metrics["ratio/mean"] = mean
    if LOW in config:
        low, high = ratio < config[LOW], ratio > config[HIGH]
        if facts.stops_at_clip:
            advantages = _joined([one.advantages for one in tokens])
            low, high = low & (advantages < 0), high & (advantages > 0)
        metrics["ratio/clipped"] = float((low | high).mean())
    return metrics


def _staleness(datums: Sequence[RLDatum], policy_version: int | None) -> dict[str, float]:
    if policy_version is None:
        return {}
    known = [policy_version - datum.policy_version for datum in datums if datum.policy_version >= 0]
    return {"staleness/mean": sum(known) / len(known), "staleness/max": float(max(known))} if known else {}


def _rewards(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    metrics = {f"reward/{name}": value for name, value in _mean_and_error(groups).items() if name != "members"}
    tagged: defaultdict[str, list[TrajectoryGroup]] = defaultdict(list)
    for group in groups:
        for tag in sorted(set(group.tags)):
            tagged[tag].append(group)
    for tag in sorted(tagged):
        metrics |= {f"reward/{tag}/{name}": value for name, value in _mean_and_error(tagged[tag]).items()}
    return metrics


def _mean_and_error(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Mean reward over members, and its standard error with the groups as the units that were drawn."""
    scored = [[reward for reward in group.rewards if reward is not None] for group in groups]
    scored = [rewards for rewards in scored if rewards]
    members = sum(len(rewards) for rewards in scored)
    if not members:
        return {}
    mean = math.fsum(reward for rewards in scored for reward in rewards) / members
    found = {"mean": mean}
    if (drawn := len(scored)) >= 2:
        squares = math.fsum(math.fsum(reward - mean for reward in rewards) ** 2 for rewards in scored)
        found["stderr"] = math.sqrt(squares * drawn / (drawn - 1)) / members
    return {**found, "members": float(members)}


def _group_counts(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    scored = [group for group in groups if is_scored(group)]
    constant = [group for group in scored if is_constant(group)]
    good = sum(all(reward is None or reward >= GOOD for reward in group.rewards) for group in constant)
    counts = {
        "groups": float(len(groups)),
        "groups_unscored": float(len(groups) - len(scored)),
        "groups_constant": float(len(constant)),
    }
    if not scored:
        return counts
    shares = {"mixed": len(scored) - len(constant), "all_good": good, "all_bad": len(constant) - good}
    return {**counts, **{f"by_group/frac_{name}": count / len(scored) for name, count in shares.items()}}


def _verdicts(group: TrajectoryGroup) -> list[Verdict]:
    own = [verdict for trajectory in group.trajectories for verdict in trajectory.verdicts]
    return [*own, *(reward.verdict for reward in group.group_rewards if reward.verdict is not None)]


def _verdict_counts(verdicts: Sequence[Verdict]) -> dict[str, float]:
    states = [verdict.state for verdict in verdicts]
    return {
        "verdicts": float(len(states)),
        "verdicts_invalid": float(states.count("invalid")),
        "verdicts_timed_out": float(states.count("timed_out")),
    }


def _episodes(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    turns = [transition for trajectory in trajectories for transition in trajectory.transitions]
    acted = sum(len(turn.action.tokens) for turn in turns)
    metrics = {"total_ac_tokens": float(acted)}
    if trajectories:
        metrics["truncated"] = sum(is_truncated(trajectory) for trajectory in trajectories) / len(trajectories)
        metrics["turns_per_episode"] = len(turns) / len(trajectories)
    if turns:
        metrics["ac_tokens_per_turn"] = acted / len(turns)
        metrics["ob_tokens_per_turn"] = sum(turn.observation.length for turn in turns) / len(turns)
    if acted and math.isfinite(nats := -math.fsum(q for turn in turns for q in turn.action.logprobs)):
        metrics["entropy"] = nats / acted
    return metrics


def _environments(groups: Sequence[TrajectoryGroup]) -> dict[str, float]:
    """Each metric's mean over members, a member's being the mean of all that it reported under the name."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    refused = 0
    for group in groups:
        for trajectory, reward in zip(group.trajectories, group.group_rewards, strict=True):
            if trajectory.failure is not None:
                continue
            reported = [*(turn.result.metrics for turn in trajectory.transitions), reward.metrics]
            for name, value in _means(reported).items():
                if math.isfinite(value):
                    values[name].append(value)
                else:
                    refused += 1
    metrics = {f"env/{name}": math.fsum(values[name]) / len(values[name]) for name in sorted(values)}
    return {**metrics, "env_metrics_not_finite": float(refused)} if refused else metrics


def _means(reported: Iterable[Mapping[str, float]]) -> dict[str, float]:
    values: defaultdict[str, list[float]] = defaultdict(list)
    for metrics in reported:
        for name, value in metrics.items():
            values[name].append(float(value))
    return {name: sum(own) / len(own) for name, own in values.items()}


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *parts])
