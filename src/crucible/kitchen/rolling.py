"""How are the groups of a step rolled out while other work goes on? As tasks, each a function of its index."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from crucible.errors import DataError
from crucible.kitchen.policies import Policy
from crucible.ports import SamplingClient
from crucible.ports.sampling_client import SamplingSession
from crucible.train.graders.graders import Graders
from crucible.train.rl.completer import SessionCompleter
from crucible.train.rl.rollout import RolloutLimits, rollout_group
from crucible.train.rl.strategy import RolloutStrategy
from crucible.train.rl.types import EnvGroupBuilder, TrajectoryGroup
from crucible.train.seeding import derive_seed


class LiveWork:
    """What a run has under way beside its stages: rollouts, and sessions that sample. It forgets what has ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[TrajectoryGroup]] = set()
        self._sessions: dict[str, SamplingSession] = {}

    def begun(self, task: "asyncio.Task[TrajectoryGroup]") -> None:
        """A rollout has begun."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def opened(self, session: SamplingSession) -> None:
        """A session samples from now on."""
        self._sessions[session.session_id] = session

    def closed(self, session: SamplingSession) -> None:
        """It does no more."""
        self._sessions.pop(session.session_id, None)

    async def end(self, client: SamplingClient) -> None:
        """End all of it: the run has failed, or was stopped."""
        tasks, sessions = list(self._tasks), list(self._sessions.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in sessions:
            await client.close_session(session)
            self.closed(session)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupSampler:
    """What all groups of a step have in common.

    step: from 1; of an evaluation, the steps done. seed: the run's; purpose: what is drawn from it for. live: told of
    every group that is begun.
    """

    client: SamplingClient
    policy: Policy
    graders: Graders
    limits: RolloutLimits
    temperature: float
    strategy: RolloutStrategy
    step: int
    seed: int
    live: LiveWork
    purpose: str = "group"

    def start(self, builder: EnvGroupBuilder, *, index: int) -> "asyncio.Task[TrajectoryGroup]":
        """Roll out one group of the run, counted from 0: its seed follows from its index."""
        completer = SessionCompleter(
            self.client,
            self.policy.session,
            max_tokens=self.limits.max_tokens,
            temperature=self.temperature,
            policy=self.policy.weights,
            context_length=self.limits.context_length,
        )
        rolling = rollout_group(
            builder,
            completer,
            index=index,
            seed=derive_seed(self.seed, self.purpose, index),
            graders=self.graders,
            step=self.step,
            limits=self.limits,
            strategy=self.strategy,
        )
        task = asyncio.create_task(rolling)
        self.live.begun(task)
        return task


@dataclass(frozen=True, kw_only=True, eq=False)
class RolloutsInFlight:
    """A step's groups while they are rolled out: one task each, in the groups' order.

    sampler: of all of them; None where they were taken from the run's record.
    """

    sampler: GroupSampler | None
    waiting: Sequence["asyncio.Future[TrajectoryGroup]"]

    async def groups(self, start: int = 0, end: int | None = None) -> list[TrajectoryGroup]:
        """Those from `start` to `end`, in order, when all of them are done. The first failure ends all the others."""
        try:
            return list(await asyncio.gather(*self.waiting[start:end]))
        except BaseException:
            await self.cancel()
            raise

    async def cancel(self) -> None:
        """End what is not done, and wait until it has ended."""
        for one in self.waiting:
            one.cancel()
        await asyncio.gather(*self.waiting, return_exceptions=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class StepRollouts:
    """A step's groups. recorded: they came from the run's record. at: `time.perf_counter()` when all were there."""

    groups: tuple[TrajectoryGroup, ...]
    at: float
    recorded: bool = False


def require_a_reward(groups: Sequence[TrajectoryGroup], *, step: int) -> None:
    """Raise DataError if no member of a whole step has a reward: nothing could be learned, and nothing will."""
    if not groups or any(reward is not None for group in groups for reward in group.rewards):
        return
    trajectories = [one for group in groups for one in group.trajectories]
    failed = [f"{one.failure.kind}: {one.failure.what}" for one in trajectories if one.failure is not None]
    graded = [f"{verdict.state}: {verdict.detail}" for one in trajectories for verdict in one.verdicts]
    ((reason, count),) = Counter(failed or graded or ["no reason is known"]).most_common(1)
    raise DataError.of(
        f"none of the {len(trajectories)} rollouts of this step has a reward",
        where=f"step {step}",
        given=f"{count} of them: {reason}",
        fix="Mend the environment or its grader, then continue the run",
    )
