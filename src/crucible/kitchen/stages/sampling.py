"""Who samples a step, and what comes of it? Snapshots of the policy, and the groups that they roll out."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import ClassVar

from crucible.errors import DataError, Problem
from crucible.framework import Reads, Stage, StageContext, Updates, Writes
from crucible.kitchen.policies import CODEC, Policies, Policy
from crucible.kitchen.rolling import GroupSampler, LiveWork, RolloutsInFlight, StepRollouts, require_a_reward
from crucible.ports import SamplingClient, TrainingClient
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import SavedWeights, TrainingSession
from crucible.train.graders.graders import Graders
from crucible.train.rl.record import read_rollouts, rollouts_file, write_rollouts
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.selection import groups_wanted, is_constant, is_scored
from crucible.train.rl.strategy import FailFast, MinimumGroup, RetryMember, RolloutStrategy
from crucible.train.rl.types import EnvGroupBuilder, RLDataset, TrajectoryGroup

STRATEGIES: dict[str, RolloutStrategy] = {"fail": FailFast(), "retry": RetryMember(), "minimum": MinimumGroup()}
"""What `on_failure` may say."""


async def snapshot(
    training: TrainingClient, sampling: SamplingClient, session: TrainingSession, *, index: int, live: LiveWork
) -> Policy:
    """What the session has come to after so many steps, saved and open for sampling."""
    weights = await training.save_weights_for_sampler(session, f"policy-{index:08d}", overwrite=True)
    opened = await sampling.start_session(model_path=weights.path)
    live.opened(opened)
    return Policy(index=index, weights=weights, session=opened, live=weights.path)


async def closed(
    training: TrainingClient, sampling: SamplingClient, policies: Iterable[Policy], *, live: LiveWork
) -> None:
    """Close the snapshots and delete them. A checkpoint has copies of its own; where it has not, at a service, what it
    refers to stays."""
    for policy in policies:
        await sampling.close_session(policy.session)
        live.closed(policy.session)
        if not CODEC.refers_to(policy.live):
            await training.delete_checkpoint(policy.live)


class BeginLiveWork(Stage):
    """Keep account of what goes on beside the stages from now on, so that it ends with the run."""

    ports: ClassVar = (SamplingClient,)
    live: Writes[LiveWork]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.live, LiveWork())

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.live):
            await ctx.read(self.live).end(ctx.port(SamplingClient))


class FirstPolicy(Stage):
    """Open the policy that the run begins with."""

    ports: ClassVar = (TrainingClient, SamplingClient)
    session: Reads[TrainingSession]
    live: Reads[LiveWork]
    policies: Writes[Policies]

    async def execute(self, ctx: StageContext) -> None:
        training, sampling = ctx.port(TrainingClient), ctx.port(SamplingClient)
        first = await snapshot(training, sampling, ctx.read(self.session), index=0, live=ctx.read(self.live))
        ctx.write(self.policies, Policies(entries=(first,)))

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.policies):
            for policy in ctx.read(self.policies).entries:
                await ctx.port(SamplingClient).close_session(policy.session)


class SavePolicy(Stage):
    """Open what the step has made of the policy; of the snapshots before it, the newest `keep - 1` stay open."""

    ports: ClassVar = (TrainingClient, SamplingClient)
    session: Reads[TrainingSession]
    step: Reads[int]
    live: Reads[LiveWork]
    policies: Updates[Policies]
    keep: int = 1

    def check(self) -> Iterable[Problem]:
        if self.keep < 1:
            yield Problem(what="must be at least 1", where="keep", given=str(self.keep))

    async def execute(self, ctx: StageContext) -> None:
        training, sampling = ctx.port(TrainingClient), ctx.port(SamplingClient)
        session, step, live = ctx.read(self.session), ctx.read(self.step), ctx.read(self.live)
        newest = await snapshot(training, sampling, session, index=step, live=live)
        window, left = ctx.read(self.policies).followed_by(newest, keep=self.keep)
        ctx.write(self.policies, window)
        await closed(training, sampling, left, live=live)


class ClosePolicies(Stage):
    """Close all snapshots: nothing is sampled any more."""

    ports: ClassVar = (TrainingClient, SamplingClient)
    closes: ClassVar = ("policies",)
    policies: Reads[Policies]
    live: Reads[LiveWork]

    async def execute(self, ctx: StageContext) -> None:
        training, sampling = ctx.port(TrainingClient), ctx.port(SamplingClient)
        await closed(training, sampling, ctx.read(self.policies).entries, live=ctx.read(self.live))


class OpenReference(Stage):
    """Open the base model itself, from which a KL penalty keeps the policy."""

    ports: ClassVar = (SamplingClient,)
    into: Writes[SamplingSession]
    model: str

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, await ctx.port(SamplingClient).start_session(base_model=self.model))

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.into):
            await ctx.port(SamplingClient).close_session(ctx.read(self.into))


class CloseReference(Stage):
    """Close the reference."""

    ports: ClassVar = (SamplingClient,)
    reference: Reads[SamplingSession]

    async def execute(self, ctx: StageContext) -> None:
        await ctx.port(SamplingClient).close_session(ctx.read(self.reference))


class StartRollouts(Stage):
    """Start the groups of a step, all at once, sampled by the newest policy that this stage sees; nothing is awaited.

    Groups that are in the run's record (it was killed after it had written them, and went back to a checkpoint) are
    taken from there if they were drawn under the same settings: with `replay="same_policy"` if the policy of now has
    sampled them, which then would sample the same again; with `"always"` whoever has, for a schedule that depends on
    the clock.

    on_failure: `fail`, `retry` or `minimum`. seed: the run's. drawn_as: stands for all settings that rollouts follow
    from.
    """

    ports: ClassVar = (SamplingClient,)
    problems: Reads[RLDataset]
    graders: Reads[Graders]
    policies: Reads[Policies]
    limits: Reads[RolloutLimits]
    iteration: Reads[int]
    total_steps: Reads[int]
    live: Reads[LiveWork]
    into: Writes[RolloutsInFlight]
    temperature: float = 1.0
    on_failure: str = "fail"
    replay: str = "same_policy"
    drawn_as: str = ""
    seed: int = 0

    def check(self) -> Iterable[Problem]:
        if self.on_failure not in STRATEGIES:
            yield Problem(what=f"is one of {', '.join(STRATEGIES)}", where="on_failure", given=self.on_failure)
        if self.replay not in ("same_policy", "always"):
            yield Problem(what="is same_policy or always", where="replay", given=self.replay)
        if self.temperature < 0:
            yield Problem(what="must be 0 or more", where="temperature", given=str(self.temperature))

    async def execute(self, ctx: StageContext) -> None:
        iteration, policy = ctx.read(self.iteration), ctx.read(self.policies).newest
        builders = ctx.read(self.problems).get_batch(iteration)
        found = _recorded(ctx, iteration + 1, self.drawn_as)
        if found and (self.replay == "always" or _same(found, builders, policy.weights, self.temperature)):
            ctx.write(self.into, RolloutsInFlight(sampler=None, waiting=[_ready(group) for group in found]))
            return
        sampler = GroupSampler(
            client=ctx.port(SamplingClient),
            policy=policy,
            graders=ctx.read(self.graders),
            limits=ctx.read(self.limits),
            temperature=self.temperature,
            strategy=STRATEGIES[self.on_failure],
            step=iteration + 1,
            seed=self.seed,
            live=ctx.read(self.live),
        )
        first = iteration * len(builders)
        tasks = [sampler.start(builder, index=first + number) for number, builder in enumerate(builders)]
        for task in tasks:
            task.add_done_callback(lambda _: self._tell(ctx, tasks, step=iteration + 1))
        ctx.write(self.into, RolloutsInFlight(sampler=sampler, waiting=tasks))

    def _tell(self, ctx: StageContext, tasks: Sequence["asyncio.Task[TrajectoryGroup]"], *, step: int) -> None:
        done = sum(task.done() and not task.cancelled() for task in tasks)
        steps = ctx.read(self.total_steps)
        ctx.emit("rollout.group", {"done": done, "total": len(tasks), "step": step, "total_steps": steps})


def _recorded(ctx: StageContext, step: int, drawn_as: str) -> Sequence[TrajectoryGroup]:
    """The groups that this run has on record of the step; none where it has no such record, one of other settings, or
    a damaged one."""
    if ctx.run.run_dir is None:
        return ()
    path = rollouts_file(ctx.run.run_dir, step)
    try:
        found = read_rollouts(path) if path.exists() else None
        return () if found is None or found.drawn_as != drawn_as else found.groups
    except DataError as error:
        ctx.emit("rollouts.unreadable", {"step": step}, {"message": str(error)})
        return ()


def _same(
    found: Sequence[TrajectoryGroup], builders: Sequence[EnvGroupBuilder], policy: SavedWeights, temperature: float
) -> bool:
    """Whether this policy has sampled all of it, for these problems, at this temperature."""
    drawn = [turn.action.provenance for group in found for one in group.trajectories for turn in one.transitions]
    asked = [(builder.problem, tuple(builder.tags)) for builder in builders]
    return (
        all(
            (one.digest, one.policy_version, one.temperature) == (policy.digest, policy.policy_version, temperature)
            for one in drawn
        )
        and [(group.problem, group.tags) for group in found[: len(asked)]] == asked
    )


def _ready(group: TrajectoryGroup) -> "asyncio.Future[TrajectoryGroup]":
    future: asyncio.Future[TrajectoryGroup] = asyncio.get_running_loop().create_future()
    future.set_result(group)
    return future


class AwaitRollouts(Stage):
    """Wait for the step's groups; where some have nothing to learn from, draw others (dynamic sampling).

    more: how many further groups at most (0: none). Which problems these are follows from the step and the go alone:
    go n of step t takes from the front of the batch that comes n times the whole run later.
    """

    rolling: Reads[RolloutsInFlight]
    problems: Reads[RLDataset]
    iteration: Reads[int]
    total_steps: Reads[int]
    into: Writes[StepRollouts]
    more: int = 0

    def check(self) -> Iterable[Problem]:
        if self.more < 0:
            yield Problem(what="must be 0 or more", where="more", given=str(self.more))

    async def execute(self, ctx: StageContext) -> None:
        rolling = ctx.read(self.rolling)
        groups = await rolling.groups()
        if rolling.sampler is not None:
            groups += await self._others(ctx, rolling.sampler, groups)
        require_a_reward(groups, step=ctx.read(self.iteration) + 1)
        there = StepRollouts(groups=tuple(groups), at=time.perf_counter(), recorded=rolling.sampler is None)
        ctx.write(self.into, there)

    async def _others(
        self, ctx: StageContext, sampler: GroupSampler, first: Sequence[TrajectoryGroup]
    ) -> list[TrajectoryGroup]:
        target, drawn, batch = len(first), list[TrajectoryGroup](), ctx.read(self.iteration)
        while wanted := groups_wanted(
            sum(is_scored(group) and not is_constant(group) for group in (*first, *drawn)),
            target=target,
            drawn=target + len(drawn),
            limit=target + self.more,
        ):
            batch += ctx.read(self.total_steps)
            builders = ctx.read(self.problems).get_batch(batch)[:wanted]
            tasks = [sampler.start(builder, index=batch * target + n) for n, builder in enumerate(builders)]
            drawn += await RolloutsInFlight(sampler=sampler, waiting=tasks).groups()
        return drawn


class RecordRollouts(Stage):
    """Write the step's groups to the run's record, before anything is learned from them. drawn_as: as `StartRollouts`
    has it."""

    iteration: Reads[int]
    rollouts: Reads[StepRollouts]
    drawn_as: str = ""

    async def execute(self, ctx: StageContext) -> None:
        rollouts, folder = ctx.read(self.rollouts), ctx.run.run_dir
        if folder is None or rollouts.recorded:
            return
        step = ctx.read(self.iteration) + 1
        await asyncio.to_thread(write_rollouts, folder, step, rollouts.groups, drawn_as=self.drawn_as)
