"""How is a group of rollouts written as one line of JSON, and read back exactly?"""

from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec

from crucible.errors import DataError
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import Provenance, StopReason
from crucible.train.graders.verdict import Verdict, VerdictState
from crucible.train.rl.record_seen import (
    RecordedObservation,
    Tokens,
    only_text,
    read_observation,
    record_observation,
)
from crucible.train.rl.record_values import (
    data_of,
    data_of_messages,
    figure_of,
    figures_of,
    messages_of,
    number_of,
    numbers_of,
    text_of,
)
from crucible.train.rl.types import (
    Action,
    Ended,
    Failure,
    GroupReward,
    StepResult,
    Trajectory,
    TrajectoryGroup,
    Transition,
)
from crucible.train.token_record import Figure


class _Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    state: VerdictState
    score: Figure = None
    detail: str = ""
    repeatable: bool = True


class _Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """policy: the place of the weights' provenance in the group's list. next: the observation that followed, where no
    turn did, or one that saw something else."""

    seen: RecordedObservation
    tokens: list[int]
    logprobs: list[Figure]
    stop_reason: StopReason
    seed: int
    policy: Annotated[int, msgspec.Meta(ge=0)] = 0
    reward: Figure
    done: bool = False
    ended: Ended = "done"
    next: RecordedObservation | None = None
    next_stop: list[str | int] = []
    verdict: _Verdict | None = None
    metrics: dict[str, Figure] = {}
    logs: dict[str, Any] = {}
    said: list[dict[str, Any]] = []


class _Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    kind: str
    what: str
    attempts: int = 1


class _Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """first: None where the messages are the group's."""

    turns: list[_Turn]
    ended: Ended
    first: list[dict[str, Any]] | None = None
    failure: _Failure | None = None


class _GroupReward(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    reward: Figure = 0.0
    metrics: dict[str, Figure] = {}
    verdict: _Verdict | None = None


class _Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    base_model: str
    digest: str
    policy_version: int
    temperature: Figure


class _Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """prompt: the tokens that the first member's first turn saw, if they were one chunk; first: its messages."""

    index: Annotated[int, msgspec.Meta(ge=0)]
    problem: str
    tags: list[str] = []
    prompt: list[int] | None = None
    first: list[dict[str, Any]] = []
    policies: list[_Policy] = []
    members: list[_Member]
    group_rewards: list[_GroupReward]


def encode_group(group: TrajectoryGroup) -> bytes:
    """The group as one line of JSON, its newline included; the same group always gives the same bytes.

    `logs` and messages are there to be read: of them, what JSON lacks is written as what is nearest (`json_of`).

    Raises:
        DataError: if `logs` or a message holds what is no JSON data.
    """
    where = f"group {group.index}"
    prompt = next((only_text(one.transitions[0].observation) for one in group.trajectories if one.transitions), None)
    first = group.trajectories[0].first if group.trajectories else ()
    policies: dict[Provenance, int] = {}
    members = [
        _Member(
            turns=_record_turns(one, prompt, policies, f"{where}, member {place}"),
            ended=one.ended,
            first=None if list(one.first) == list(first) else data_of_messages(one.first, f"{where}, member {place}"),
            failure=_record_failure(one.failure),
        )
        for place, one in enumerate(group.trajectories)
    ]
    recorded = _Group(
        index=group.index,
        problem=text_of(group.problem),
        tags=[text_of(tag) for tag in group.tags],
        prompt=None if prompt is None else list(prompt),
        first=data_of_messages(first, where),
        policies=[_record_policy(one) for one in policies],
        members=members,
        group_rewards=[_record_group_reward(one) for one in group.group_rewards],
    )
    return msgspec.json.encode(recorded) + b"\n"


def decode_group(line: bytes | str, *, where: str = "a rollout record") -> TrajectoryGroup:
    """The group that the line is; its sequences are tuples.

    where: the place of the line, for the message.

    Raises:
        DataError: if the line is damaged.
    """
    try:
        found = msgspec.json.decode(line, type=_Group)
        policies = [_read_policy(one) for one in found.policies]
        prompt = None if found.prompt is None else tuple(found.prompt)
        return TrajectoryGroup(
            index=found.index,
            problem=found.problem,
            tags=tuple(found.tags),
            trajectories=tuple(_read_member(one, prompt, found.first, policies) for one in found.members),
            group_rewards=tuple(_read_group_reward(one) for one in found.group_rewards),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, IndexError, AssertionError) as error:
        raise DataError.of(f"is no whole group of rollouts: {error}", where=where) from error


def _record_turns(
    trajectory: Trajectory, prompt: Tokens | None, policies: dict[Provenance, int], where: str
) -> list[_Turn]:
    turns: list[_Turn] = []
    before: Tokens | None = None
    following = [*(one.observation for one in trajectory.transitions[1:]), None]
    for place, (one, after) in enumerate(zip(trajectory.transitions, following, strict=False)):
        action, result = one.action, one.result
        seen = record_observation(one.observation, prompt=prompt, before=before)
        before = _through(one.observation, action.tokens)
        told = result.next_observation
        turn = _Turn(
            seen=seen,
            tokens=list(action.tokens),
            logprobs=[figure_of(value) for value in action.logprobs],
            stop_reason=action.stop_reason,
            seed=action.seed,
            policy=policies.setdefault(action.provenance, len(policies)),
            reward=figure_of(result.reward),
            done=result.episode_done,
            ended=result.ended,
            next=None if told is None or told == after else record_observation(told, prompt=prompt, before=before),
            next_stop=list(result.next_stop),
            verdict=_record_verdict(result.verdict),
            metrics=figures_of(result.metrics),
            logs=data_of(result.logs, f"{where}, turn {place}, logs"),
            said=data_of_messages(result.said, f"{where}, turn {place}, said"),
        )
        turns.append(turn)
    return turns


def _read_member(
    member: _Member, prompt: Tokens | None, first: list[dict[str, Any]], policies: Sequence[Provenance]
) -> Trajectory:
    seen: list[ModelInput] = []
    through: list[Tokens | None] = [None]
    for turn in member.turns:
        seen.append(read_observation(turn.seen, prompt=prompt, before=through[-1]))
        through.append(_through(seen[-1], turn.tokens))
    transitions: list[Transition] = []
    for place, turn in enumerate(member.turns):
        following: ModelInput | None = None
        if turn.next is not None:
            following = read_observation(turn.next, prompt=prompt, before=through[place + 1])
        elif not turn.done:
            following = seen[place + 1]
        action = Action(
            tokens=tuple(turn.tokens),
            logprobs=tuple(number_of(value) for value in turn.logprobs),
            stop_reason=turn.stop_reason,
            seed=turn.seed,
            provenance=policies[turn.policy],
        )
        result = _read_result(turn, following)
        transitions.append(Transition(observation=seen[place], action=action, result=result))
    failure = member.failure
    return Trajectory(
        transitions=tuple(transitions),
        ended=member.ended,
        first=messages_of(first if member.first is None else member.first),
        failure=None if failure is None else Failure(kind=failure.kind, what=failure.what, attempts=failure.attempts),
    )


def _read_result(turn: _Turn, following: ModelInput | None) -> StepResult:
    return StepResult(
        reward=number_of(turn.reward),
        episode_done=turn.done,
        next_observation=following,
        next_stop=cast("tuple[str, ...] | tuple[int, ...]", tuple(turn.next_stop)),
        metrics=numbers_of(turn.metrics),
        logs=turn.logs,
        said=messages_of(turn.said),
        verdict=_read_verdict(turn.verdict),
        ended=turn.ended,
    )


def _through(seen: ModelInput, action: Sequence[int]) -> Tokens | None:
    tokens = only_text(seen)
    return None if tokens is None else (*tokens, *action)


def _record_failure(one: Failure | None) -> _Failure | None:
    return None if one is None else _Failure(kind=text_of(one.kind), what=text_of(one.what), attempts=one.attempts)


def _record_verdict(one: Verdict | None) -> _Verdict | None:
    if one is None:
        return None
    score = None if one.score is None else figure_of(one.score)
    return _Verdict(state=one.state, score=score, detail=text_of(one.detail), repeatable=one.repeatable)


def _read_verdict(one: _Verdict | None) -> Verdict | None:
    if one is None:
        return None
    score = None if one.score is None else number_of(one.score)
    return Verdict(state=one.state, score=score, detail=one.detail, repeatable=one.repeatable)


def _record_group_reward(one: GroupReward) -> _GroupReward:
    return _GroupReward(
        reward=figure_of(one.reward), metrics=figures_of(one.metrics), verdict=_record_verdict(one.verdict)
    )


def _read_group_reward(one: _GroupReward) -> GroupReward:
    return GroupReward(
        reward=number_of(one.reward), metrics=numbers_of(one.metrics), verdict=_read_verdict(one.verdict)
    )


def _record_policy(one: Provenance) -> _Policy:
    return _Policy(
        base_model=one.base_model,
        digest=one.digest,
        policy_version=one.policy_version,
        temperature=figure_of(one.temperature),
    )


def _read_policy(one: _Policy) -> Provenance:
    return Provenance(
        base_model=one.base_model,
        digest=one.digest,
        policy_version=one.policy_version,
        temperature=number_of(one.temperature),
    )
