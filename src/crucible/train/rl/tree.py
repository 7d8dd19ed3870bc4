"""What happened in a step's rollouts, as a tree to be read: the step, its groups, their members, their turns?

The tree is data: `msgspec.json.encode` writes it, and it is what the page of a run is drawn from.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from crucible.ports.sampling_client import Provenance
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.record import LearnedGroup, Purpose, Rollouts
from crucible.train.rl.record_values import data_of, data_of_messages, figure_of, figures_of, text_of
from crucible.train.rl.rl_metrics import rollout_metrics
from crucible.train.rl.tree_parts import TurnPlace, parts_of, tokens_of
from crucible.train.rl.types import Failure, TrajectoryGroup, Transition
from crucible.train.token_record import Figure
from crucible.train.token_texts import TokenReader, TokenText

VERSION = 1
"""Of the trees made here."""


class PolicyTree(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights sampled, and how."""

    base_model: str
    digest: str
    policy_version: int
    temperature: Figure


class VerdictTree(msgspec.Struct, frozen=True, kw_only=True):
    """A grader's verdict."""

    state: str
    score: Figure
    detail: str
    repeatable: bool


class FailureTree(msgspec.Struct, frozen=True, kw_only=True):
    """Why a rollout came to nothing."""

    kind: str
    what: str
    attempts: int


class TurnTree(msgspec.Struct, frozen=True, kw_only=True):
    """A turn. observed: the text that is new in what it saw, None where that is the group's prompt; answered: the text
    of its T tokens, special tokens by name. said: the messages as they were read, the policy's own first.
    mean_logprob, lowest_logprob: the sampler's, in nats; None without tokens. policy: the place in the step's list.

    part, seen, acted, end: where it stands in the member's sequences (`tree_parts.TurnPlace`).
    """

    observed: str | None
    answered: str
    tokens: int
    stop_reason: str
    ended: str
    reward: Figure
    verdict: VerdictTree | None
    mean_logprob: Figure
    lowest_logprob: Figure
    policy: int
    seed: int
    said: list[dict[str, Any]]
    metrics: dict[str, Figure]
    logs: dict[str, Any]
    part: int
    seen: int
    acted: int
    end: int


class MemberTree(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt. reward: its total, None where there is none; group_reward: the part that the group as a whole earned
    it. advantage: the member's, None where there is none or none is recorded. left_out: why it trained nothing; "" if
    it did, None if no record says. group_verdict, group_metrics: of the group's judge."""

    member: int
    reward: Figure
    group_reward: Figure
    advantage: Figure
    left_out: str | None
    ended: str
    failure: FailureTree | None
    tokens: int
    mean_logprob: Figure
    group_verdict: VerdictTree | None
    group_metrics: dict[str, Figure]
    turns: list[TurnTree]


class GroupTree(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts at a problem. prompt: the text that its first member saw first, special tokens by name; first: its
    messages. reward_mean, reward_std: over the members with a reward (the population's); None without any."""

    index: int
    problem: str
    tags: list[str]
    prompt: str
    first: list[dict[str, Any]]
    reward_mean: Figure
    reward_std: Figure
    members: list[MemberTree]


class StepTree(msgspec.Struct, frozen=True, kw_only=True):
    """The rollouts of a step, or of an evaluation after so many steps.

    metrics: `rollout_metrics` of all its groups, as in `metrics.jsonl`. ended, left_out: how many members, by reason.
    not_shown: how many further groups it had.
    """

    version: int
    purpose: Purpose
    step: int
    metrics: dict[str, Figure]
    ended: dict[str, int]
    left_out: dict[str, int]
    policies: list[PolicyTree]
    groups: list[GroupTree]
    not_shown: int


def step_tree(
    rollouts: Rollouts, reader: TokenReader, *, learned: Mapping[int, LearnedGroup], groups: int | None = None
) -> StepTree:
    """The tree of a step.

    learned: what learning made of its groups, by index. groups: only the first so many; metrics and counts are of all.
    """
    policies: dict[Provenance, int] = {}
    shown = rollouts.groups[:groups]
    members = [one for group in rollouts.groups for one in group.trajectories]
    reasons = [reason for group in rollouts.groups for reason in _left_out(group, learned.get(group.index)) if reason]
    trees = [_group(group, reader, learned.get(group.index), policies) for group in shown]
    return StepTree(
        version=VERSION,
        purpose=rollouts.purpose,
        step=rollouts.step,
        metrics=figures_of(rollout_metrics(rollouts.groups)),
        ended=_counts([one.ended for one in members]),
        left_out=_counts(reasons),
        policies=[_policy(one) for one in policies],
        groups=trees,
        not_shown=len(rollouts.groups) - len(shown),
    )


def _group(
    group: TrajectoryGroup, reader: TokenReader, learned: LearnedGroup | None, policies: dict[Provenance, int]
) -> GroupTree:
    begun = next((one for one in group.trajectories if one.transitions), None)
    prompt = [] if begun is None else tokens_of(begun.transitions[0].observation)
    scored = [reward for reward in group.rewards if reward is not None]
    first = group.trajectories[0].first if group.trajectories else ()
    return GroupTree(
        index=group.index,
        problem=text_of(group.problem),
        tags=[text_of(tag) for tag in group.tags],
        prompt=_joined(reader.read(prompt)),
        first=data_of_messages(first, f"group {group.index}"),
        reward_mean=figure_of(np.mean(scored).item()) if scored else None,
        reward_std=figure_of(_spread(scored)) if scored else None,
        members=[
            _member(group, place, prompt=prompt, reader=reader, learned=learned, policies=policies)
            for place in range(len(group.trajectories))
        ],
    )


def _member(
    group: TrajectoryGroup,
    place: int,
    *,
    prompt: Sequence[int],
    reader: TokenReader,
    learned: LearnedGroup | None,
    policies: dict[Provenance, int],
) -> MemberTree:
    trajectory, judged, reward = group.trajectories[place], group.group_rewards[place], group.rewards[place]
    turns: list[TurnTree] = []
    for number, part in enumerate(parts_of(trajectory)):
        texts = reader.read(part.tokens)
        for where in part.turns:
            transition = trajectory.transitions[where.turn]
            policy = policies.setdefault(transition.action.provenance, len(policies))
            observed: str | None = _joined(texts[where.seen : where.acted])
            if where.seen == 0 and part.tokens[: where.acted] == prompt:
                observed = None
            answered = _joined(texts[where.acted : where.end])
            turns.append(_turn(transition, where, number, observed=observed, answered=answered, policy=policy))
    return MemberTree(
        member=place,
        reward=None if reward is None else figure_of(reward),
        group_reward=figure_of(judged.reward),
        advantage=None if learned is None else learned.advantages[place],
        left_out=None if learned is None else learned.left_out[place],
        ended=trajectory.ended,
        failure=_failure(trajectory.failure),
        tokens=trajectory.tokens,
        mean_logprob=_mean([value for one in trajectory.transitions for value in one.action.logprobs]),
        group_verdict=_verdict(judged.verdict),
        group_metrics=figures_of(judged.metrics),
        turns=turns,
    )


def _turn(
    transition: Transition, where: TurnPlace, part: int, *, observed: str | None, answered: str, policy: int
) -> TurnTree:
    action, result = transition.action, transition.result
    named = f"turn {where.turn}"
    return TurnTree(
        observed=observed,
        answered=answered,
        tokens=len(action.tokens),
        stop_reason=action.stop_reason,
        ended=result.ended,
        reward=figure_of(result.reward),
        verdict=_verdict(result.verdict),
        mean_logprob=_mean(action.logprobs),
        lowest_logprob=figure_of(min(action.logprobs)) if action.logprobs else None,
        policy=policy,
        seed=action.seed,
        said=data_of_messages(result.said, named),
        metrics=figures_of(result.metrics),
        logs=data_of(result.logs, named),
        part=part,
        seen=where.seen,
        acted=where.acted,
        end=where.end,
    )


def _left_out(group: TrajectoryGroup, learned: LearnedGroup | None) -> Sequence[str]:
    assert learned is None or len(learned.left_out) == len(group.trajectories), "one reason per member"
    return () if learned is None else learned.left_out


def _counts(reasons: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(reasons).items()))


def _spread(rewards: Sequence[float]) -> float:
    return 0.0 if len(set(rewards)) == 1 else np.std(rewards).item()


def _mean(logprobs: Sequence[float]) -> Figure:
    return figure_of(math.fsum(logprobs) / len(logprobs)) if logprobs else None


def _joined(texts: Sequence[TokenText]) -> str:
    return "".join(one.text for one in texts)


def _failure(one: Failure | None) -> FailureTree | None:
    return None if one is None else FailureTree(kind=text_of(one.kind), what=text_of(one.what), attempts=one.attempts)


def _verdict(one: Verdict | None) -> VerdictTree | None:
    if one is None:
        return None
    score = None if one.score is None else figure_of(one.score)
    return VerdictTree(state=one.state, score=score, detail=text_of(one.detail), repeatable=one.repeatable)


def _policy(one: Provenance) -> PolicyTree:
    return PolicyTree(
        base_model=one.base_model,
        digest=one.digest,
        policy_version=one.policy_version,
        temperature=figure_of(one.temperature),
    )
