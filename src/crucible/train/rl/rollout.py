"""How does a group come to its trajectories? Its members play side by side, and its seed decides every draw."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from crucible.errors import PortError, UserError
from crucible.train.graders.graders import Graders
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.completer import Completer
from crucible.train.rl.episode import (
    LARGEST,
    Begun,
    EpisodeFailed,
    Member,
    RolloutLimits,
    of_backend,
    of_environment,
)
from crucible.train.rl.opened import OpenEnvironments
from crucible.train.rl.players import OutOfGame, PlayerEnv
from crucible.train.rl.strategy import FailFast, RolloutStrategy
from crucible.train.rl.types import (
    Env,
    EnvGroupBuilder,
    Failure,
    GroupReward,
    Surroundings,
    Trajectory,
    TrajectoryGroup,
)
from crucible.train.seeding import derive_seed

T = TypeVar("T")


class RolloutError(UserError):
    """An environment failed, and the strategy is to stop at that (`on_failure=fail`)."""


async def rollout_group(
    builder: EnvGroupBuilder,
    completer: Completer,
    *,
    index: int,
    seed: int,
    graders: Graders,
    step: int,
    limits: RolloutLimits,
    strategy: RolloutStrategy | None = None,
) -> TrajectoryGroup:
    """Every member's episode, and what the group as a whole earns them: a function of `seed` and the policy alone.

    Where all first observations are equal, the first turn of all members is one request for as many completions, so
    that the backend reads the prompt once. If this is cancelled, so is all that it started.

    index: the group's number in the run; seed: its own; step: whose batch it is of, for the record of verdicts.
    strategy: what becomes of failures; `FailFast()` by default.

    Raises:
        RolloutError: if an environment failed, with `FailFast`.
        PortError, StaleWeightsError: if the backend failed for good, or drew from other weights.
        ConfigError: if an environment asks for what the run lacks.
    """
    rollout = _Rollout(
        builder=builder,
        completer=completer,
        surroundings=Surroundings(seed=seed, graders=graders, place=f"{step}/{index}"),
        limits=limits,
        strategy=strategy or FailFast(),
        name=f"group {index} ({builder.problem})",
    )
    try:
        trajectories = await rollout.trajectories()
    finally:
        await rollout.opened.close_all()
    group = TrajectoryGroup(
        index=index,
        problem=builder.problem,
        tags=tuple(builder.tags),
        trajectories=tuple(trajectories),
        group_rewards=tuple(await rollout.group_rewards(trajectories)),
    )
    return _refused_if_small(group, rollout.strategy.members)


@dataclass(frozen=True, kw_only=True)
class _Rollout:
    builder: EnvGroupBuilder
    completer: Completer
    surroundings: Surroundings
    limits: RolloutLimits
    strategy: RolloutStrategy
    name: str
    opened: OpenEnvironments = field(default_factory=OpenEnvironments)

    async def trajectories(self) -> list[Trajectory]:
        try:
            envs = list(await self._made())
        except EpisodeFailed as failed:
            # Nobody knows how many members there would have been: one stands for all.
            self._raise_if_so(failed, f"{self.name}, making its environments")
            return [failed.trajectory(attempts=self.strategy.attempts)]
        members = [self._member(number) for number in range(len(envs))]
        parties = [[members[number] for number in party] for party in _parties(envs)]
        try:
            await self._draw_first_turns(await self._open(parties, envs))
        except EpisodeFailed as failed:
            self._raise_if_so(failed, f"{self.name}, first turn of all members")
            lost = failed.trajectory(attempts=self.strategy.attempts)
            return [replace(lost, first=env.first_messages) for env in envs]
        played = await _together(self._party(party, envs) for party in parties)
        by_number = {number: trajectory for party in played for number, trajectory in party.items()}
        return [by_number[number] for number in range(len(envs))]

    async def group_rewards(self, trajectories: Sequence[Trajectory]) -> Sequence[GroupReward]:
        """A group grader that fails is a verdict on every member, never a silent 0."""
        if all(one.failure is not None for one in trajectories):
            return [GroupReward() for _ in trajectories]
        try:
            return await of_environment(self._group_rewards(trajectories))
        except EpisodeFailed as failed:
            self._raise_if_so(failed, f"{self.name}, rewards of the group")
            verdict = Verdict.invalid(f"the group's rewards: {failed}")
            return [GroupReward(verdict=verdict) for _ in trajectories]

    async def _group_rewards(self, trajectories: Sequence[Trajectory]) -> Sequence[GroupReward]:
        rewards = await self.builder.compute_group_rewards(trajectories, self.surroundings)
        if len(rewards) != len(trajectories):
            raise ValueError(f"{len(rewards)} rewards were given for {len(trajectories)} members")
        numbers = [number for one in rewards for number in (one.reward, *one.metrics.values())]
        if not all(abs(number) <= LARGEST for number in numbers):
            raise ValueError("a group reward, or a metric of one, is no finite number, or too large a one")
        return rewards

    async def _made(self, *, like: Sequence[Env] | None = None) -> Sequence[Env]:
        return await self._tried(lambda: of_environment(self._envs(like)))

    async def _tried(self, call: Callable[[], Awaitable[T]]) -> T:
        """What concerns all members, tried as often as a member is."""
        for _ in range(self.strategy.attempts - 1):
            with contextlib.suppress(EpisodeFailed):
                return await call()
        return await call()

    async def _envs(self, like: Sequence[Env] | None) -> Sequence[Env]:
        envs = await self.builder.make_envs(self.surroundings)
        self.opened.add(envs)
        if not envs:
            raise ValueError("the builder made no environment")
        if like is not None and len(envs) != len(like):
            raise ValueError(f"the builder made {len(like)} environments, and now {len(envs)}")
        return envs

    def _member(self, number: int) -> Member:
        return Member(
            number=number,
            seed=self.surroundings.seed,
            completer=self.completer,
            limits=self.limits,
            opened=self.opened,
        )

    async def _open(self, parties: Sequence[Sequence[Member]], envs: list[Env]) -> list[Member]:
        """Ask all who do not wait for another's move for their first observation, and say who they are. Those whose
        environment fails try again before anybody plays, so that the first turn is drawn for all alike."""
        starting = [member for party in parties for member in party if _starts(envs[member.number])]
        pending = starting
        while True:
            await _together(member.begin(envs[member.number]) for member in pending)
            failed = [member for member in pending if not isinstance(member.begun, Begun)]
            pending = [member for member in failed if member.attempts < self.strategy.attempts]
            if not pending:
                return starting
            try:
                fresh = await self._made(like=envs)
            except EpisodeFailed:
                return starting  # those that failed stay so, and the others play
            for party in parties:
                if any(member in pending for member in party):
                    for member in party:
                        envs[member.number] = fresh[member.number]

    async def _draw_first_turns(self, members: Sequence[Member]) -> None:
        """One request for all who see the same. A member that did not begin has its share too: should it begin yet,
        its numbers and the others' are what they would have been."""
        begun = [member.begun for member in members if isinstance(member.begun, Begun)]
        if len(members) < 2 or not begun or not all(one.like(begun[0]) for one in begun):
            return
        if not self.limits.fits(begun[0].observation):
            return
        draw = partial(
            self.completer.complete,
            begun[0].observation,
            stop=begun[0].stop,
            seed=derive_seed(self.surroundings.seed, "first turn"),
            n=len(members),
        )
        actions = await self._tried(lambda: of_backend(draw()))
        for member, action in zip(members, actions, strict=True):
            member.drawn[0] = (begun[0], action)

    async def _party(self, party: Sequence[Member], envs: Sequence[Env]) -> dict[int, Trajectory]:
        """One member by itself, or all who share a game: if one of them fails, they begin again together."""
        while True:
            outcomes = await _together(self._played(member, envs[member.number]) for member in party)
            failed = any(isinstance(one, EpisodeFailed) and not isinstance(one.error, OutOfGame) for one in outcomes)
            attempts = max(member.attempts for member in party)
            if not failed or attempts >= self.strategy.attempts:
                return {
                    member.number: one if isinstance(one, Trajectory) else one.trajectory(attempts=attempts)
                    for member, one in zip(party, outcomes, strict=True)
                }
            try:
                envs = await self._made(like=envs)
            except EpisodeFailed as lost:
                return {member.number: lost.trajectory(attempts=attempts) for member in party}

    async def _played(self, member: Member, env: Env) -> Trajectory | EpisodeFailed:
        place = f"{self.name}, member {member.number}"
        try:
            return await member.play(env)
        except EpisodeFailed as failed:
            if not isinstance(failed.error, OutOfGame):
                self._raise_if_so(failed, f"{place}, turn {len(failed.transitions)}")
            return failed
        except (UserError, PortError) as error:
            error.add_note(f"in {place}")
            raise

    def _raise_if_so(self, failed: EpisodeFailed, place: str) -> None:
        if not self.strategy.raises:
            return
        if isinstance(failed.error, UserError | PortError):
            failed.error.add_note(f"in {place}")
            raise failed.error
        fix = "Mend the environment, or go on without such a member: on_failure=retry, or on_failure=minimum"
        raise RolloutError.of(f"the environment failed: {failed}", where=place, fix=fix) from failed.error


def _starts(env: Env) -> bool:
    return not isinstance(env, PlayerEnv) or env.starts


def _parties(envs: Sequence[Env]) -> list[list[int]]:
    """Members by the game they share; each of the others by itself. In the order of the members."""
    parties: dict[int, list[int]] = {}
    for number, env in enumerate(envs):
        parties.setdefault(id(env.match if isinstance(env, PlayerEnv) else env), []).append(number)
    return list(parties.values())


async def _together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All outcomes, in order. At the first error, or if this is cancelled, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _refused_if_small(group: TrajectoryGroup, members: int) -> TrajectoryGroup:
    size, earned = len(group.trajectories), sum(reward is not None for reward in group.rewards)
    if earned >= members:
        return group
    failure = Failure(kind="MinimumGroup", what=f"{earned} of {size} members have a reward, and {members} are needed")
    refused = tuple(one if one.failure else replace(one, failure=failure) for one in group.trajectories)
    return replace(group, trajectories=refused)
