"""How does the policy learn from a step's rollouts? Advantages, datums, `forward_backward`, the optimizer's steps."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

from crucible.errors import ConfigError, Problem
from crucible.framework import Reads, Stage, StageContext, Updates, Writes
from crucible.kitchen.rl_slots import LearningBatch, PolicyUpdate
from crucible.kitchen.rolling import RolloutsInFlight, StepRollouts, require_a_reward
from crucible.kitchen.slots import StepStart
from crucible.kitchen.stages.accumulating import Accumulated
from crucible.ports import SamplingClient, TrainingClient
from crucible.ports.future import Future
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, TrainingSession
from crucible.train.rl.advantages import AdvantageKind, advantages
from crucible.train.rl.assembly import LengthNorm, RLDatum, assemble, check_length_norm
from crucible.train.rl.penalties import aligned, kl_penalty, overlong_penalties
from crucible.train.rl.selection import mask_truncated, select
from crucible.train.rl.types import RLDataset, TrajectoryGroup
from crucible.train.schedules import check_schedule, lr_at

NOTHING = ForwardBackwardOutput(loss_fn_output_type="Nothing", loss_fn_outputs=(), metrics={})
"""What comes of a step without a datum."""


class BeginStep(Stage):
    """Go to the next step: advance the step counter and fix the step's learning rate."""

    problems: Reads[RLDataset]
    iteration: Reads[int]
    total_steps: Reads[int]
    step: Updates[int]
    epoch: Writes[int]
    into: Writes[StepStart]
    learning_rate: float
    lr_schedule: str = "constant"
    warmup_steps: int = 0

    def check(self) -> Iterable[Problem]:
        try:
            check_schedule(base=self.learning_rate, schedule=self.lr_schedule, warmup_steps=self.warmup_steps)
        except ConfigError as error:
            return error.problems
        return ()

    async def execute(self, ctx: StageContext) -> None:
        iteration = ctx.read(self.iteration)
        epoch = iteration // len(ctx.read(self.problems))
        rate = lr_at(
            iteration,
            ctx.read(self.total_steps),
            base=self.learning_rate,
            schedule=self.lr_schedule,
            warmup_steps=self.warmup_steps,
        )
        ctx.write(self.step, iteration + 1)
        ctx.write(self.epoch, epoch)
        start = StepStart(step=iteration + 1, epoch=epoch, learning_rate=rate, at=time.perf_counter())
        ctx.write(self.into, start)


class _Learning(Stage):
    """What makes datums of groups.

    loss: that will read them. advantage: how a member is compared with its group. length_norm, max_tokens: what a
    member's tokens are divided by.
    overlong_buffer: a trajectory loses reward over its last so many tokens before `max_tokens` (0: none does).
    remove_constant_reward_groups: train nothing on a group of equal rewards. mask_truncated: train nothing on a member
    that was cut off.
    """

    loss: str = "importance_sampling"
    advantage: AdvantageKind = "group_mean"
    length_norm: LengthNorm = "none"
    max_tokens: int = 256
    overlong_buffer: int = 0
    remove_constant_reward_groups: bool = True
    mask_truncated: bool = False

    def check(self) -> Iterable[Problem]:
        try:
            check_length_norm(loss=self.loss, length_norm=self.length_norm, max_tokens=self.max_tokens)
        except ConfigError as error:
            yield from error.problems
        if not 0 <= self.overlong_buffer <= self.max_tokens:
            what = f"is between 0 and max_tokens ({self.max_tokens})"
            yield Problem(what=what, where="overlong_buffer", given=str(self.overlong_buffer))

    def learned(self, groups: Sequence[TrajectoryGroup], cuts: Sequence[Sequence[range]]) -> LearningBatch:
        """What is trained of the groups. cuts: per optimizer step and call, the places of its groups among them."""
        buffer = self.overlong_buffer
        shaping = overlong_penalties(groups, max_tokens=self.max_tokens, buffer=buffer) if buffer else None
        own = advantages(groups, kind=self.advantage, shaping=shaping)
        masked = mask_truncated(groups, own) if self.mask_truncated else own
        selection = select(groups, masked, remove_constant_reward_groups=self.remove_constant_reward_groups)
        datums = assemble(
            selection.groups,
            selection.advantages,
            loss=self.loss,
            length_norm=self.length_norm,
            max_tokens=self.max_tokens,
        )
        place = {group.index: number for number, group in enumerate(groups)}
        return LearningBatch(
            advantages=own,
            left_out=selection.left_out,
            substeps=[[[datum for datum in datums if place[datum.group] in call] for call in calls] for calls in cuts],
            counts=selection.metrics(),
        )


class Assemble(_Learning):
    """Make the step's datums of all its groups.

    num_substeps: optimizer steps that share them, each with its own groups; calls: `forward_backward` calls of each.
    """

    rollouts: Reads[StepRollouts]
    into: Writes[LearningBatch]
    num_substeps: int = 1
    calls: int = 1

    def check(self) -> Iterable[Problem]:
        yield from super().check()
        for name in ("num_substeps", "calls"):
            if getattr(self, name) < 1:
                yield Problem(what="must be at least 1", where=name, given=str(getattr(self, name)))

    async def execute(self, ctx: StageContext) -> None:
        groups = ctx.read(self.rollouts).groups
        ctx.write(self.into, self.learned(groups, cut(len(groups), substeps=self.num_substeps, calls=self.calls)))


def cut(groups: int, *, substeps: int = 1, calls: int = 1) -> list[list[range]]:
    """Per optimizer step, per call, which of so many groups: a function of their number alone."""
    return [_parts(own, calls) for own in _parts(range(groups), substeps)]


def _parts(places: range, count: int) -> list[range]:
    """The places in order, in parts whose sizes differ by one at most; none of them is empty."""
    parts = min(count, len(places))
    cuts = [places.start + len(places) * part // parts for part in range(parts + 1)]
    return [range(start, end) for start, end in pairwise(cuts)]


class PenalizeDistance(Stage):
    """Take from each token's advantage its distance from the reference, more than the mean's (a KL penalty).

    Tinker-cookbook's form: `coef * (mean difference - difference)`, the difference being the sampler's logprob less the
    reference's, its mean that over all sampled tokens of the step.
    """

    ports: ClassVar = (SamplingClient,)
    reference: Reads[SamplingSession]
    batch: Updates[LearningBatch]
    coef: float

    def check(self) -> Iterable[Problem]:
        if not self.coef > 0:
            yield Problem(what="must be more than 0", where="coef", given=str(self.coef))

    async def execute(self, ctx: StageContext) -> None:
        batch, client, reference = ctx.read(self.batch), ctx.port(SamplingClient), ctx.read(self.reference)
        datums = batch.datums
        scored = await asyncio.gather(*(client.compute_logprobs(reference, datum.sequence) for datum in datums))
        penalty = kl_penalty(datums, [aligned(one) for one in scored], coef=self.coef)
        left = iter(penalty.datums)
        ctx.write(
            self.batch,
            LearningBatch(
                advantages=batch.advantages,
                left_out=batch.left_out,
                substeps=[[[next(left) for _ in call] for call in calls] for calls in batch.substeps],
                counts={**batch.counts, **penalty.metrics()},
            ),
        )


def submitted(
    client: TrainingClient,
    session: TrainingSession,
    calls: Iterable[Sequence[RLDatum]],
    *,
    loss: str,
    config: Mapping[str, float],
) -> Future[ForwardBackwardOutput]:
    """The calls that have a datum, on their way; their gradients add up."""
    futures = [
        client.forward_backward(
            session, [datum.datum for datum in call], loss_fn=loss, loss_fn_config=config, logprobs="weighted"
        )
        for call in calls
        if call
    ]
    if not futures:
        return Future.ready(NOTHING)
    return futures[0] if len(futures) == 1 else Accumulated(futures)


class ForwardBackwardPolicy(Stage):
    """Submit what the step's first optimizer step takes; nothing is awaited. Without a datum nothing is submitted."""

    ports: ClassVar = (TrainingClient,)
    session: Updates[TrainingSession]
    batch: Reads[LearningBatch]
    into: Writes[Future[ForwardBackwardOutput]]
    loss: str
    loss_config: Mapping[str, float]

    async def execute(self, ctx: StageContext) -> None:
        calls = ctx.read(self.batch).substeps[0]
        session = ctx.read(self.session)
        ctx.write(
            self.into, submitted(ctx.port(TrainingClient), session, calls, loss=self.loss, config=self.loss_config)
        )


class LearnFromMinibatches(_Learning):
    """Submit each minibatch as soon as its groups are done, while later ones are still rolled out.

    A minibatch is the groups of fixed places, so that the numbers are those of waiting for all, cut the same way.
    """

    ports: ClassVar = (TrainingClient,)
    session: Updates[TrainingSession]
    rolling: Reads[RolloutsInFlight]
    iteration: Reads[int]
    rollouts: Writes[StepRollouts]
    batch: Writes[LearningBatch]
    into: Writes[Future[ForwardBackwardOutput]]
    minibatches: int
    loss_config: Mapping[str, float]

    def check(self) -> Iterable[Problem]:
        yield from super().check()
        if self.minibatches < 1:
            yield Problem(what="must be at least 1", where="minibatches", given=str(self.minibatches))
        if self.length_norm == "batch":
            what = "needs the lengths of all groups, and a minibatch does not wait for them"
            yield Problem(what=what, where="length_norm", given="batch")

    async def execute(self, ctx: StageContext) -> None:
        client, session, rolling = ctx.port(TrainingClient), ctx.read(self.session), ctx.read(self.rolling)
        ((*calls,),) = cut(len(rolling.waiting), calls=self.minibatches)
        groups: list[TrajectoryGroup] = []
        parts: list[LearningBatch] = []
        futures: list[Future[ForwardBackwardOutput]] = []
        for call in calls:
            own = await rolling.groups(call.start, call.stop)
            groups += own
            parts.append(self.learned(own, cut(len(own))))
            if parts[-1].datums:
                futures.append(
                    submitted(client, session, parts[-1].substeps[0], loss=self.loss, config=self.loss_config)
                )
        require_a_reward(groups, step=ctx.read(self.iteration) + 1)
        there = StepRollouts(groups=tuple(groups), at=time.perf_counter(), recorded=rolling.sampler is None)
        ctx.write(self.rollouts, there)
        ctx.write(self.batch, _joined(parts))
        ctx.write(self.into, Accumulated(futures) if futures else Future.ready(NOTHING))


def _joined(parts: Sequence[LearningBatch]) -> LearningBatch:
    """The minibatches of one optimizer step as one batch of several calls."""
    names = parts[0].counts
    return LearningBatch(
        advantages=[own for part in parts for own in part.advantages],
        left_out=[own for part in parts for own in part.left_out],
        substeps=[[part.datums for part in parts]],
        counts={name: sum(part.counts[name] for part in parts) for name in names},
    )


class UpdatePolicy(Stage):
    """Take the optimizer's steps: the first on what was accumulated, each further one on its own part of the batch.

    Without a datum there is no step: Adam's momentum would move the weights.
    """

    ports: ClassVar = (TrainingClient,)
    session: Updates[TrainingSession]
    batch: Reads[LearningBatch]
    result: Reads[ForwardBackwardOutput]
    start: Reads[StepStart]
    into: Writes[PolicyUpdate]
    loss: str
    loss_config: Mapping[str, float]
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0

    async def execute(self, ctx: StageContext) -> None:
        client, session, batch = ctx.port(TrainingClient), ctx.read(self.session), ctx.read(self.batch)
        params = AdamParams(
            learning_rate=ctx.read(self.start).learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            grad_clip_norm=self.grad_clip_norm,
        )
        scored = [Future.ready(ctx.read(self.result))]
        steps = [client.optim_step(session, params)] if any(batch.substeps[0]) else []
        for calls in batch.substeps[1:]:
            if any(calls):
                scored.append(submitted(client, session, calls, loss=self.loss, config=self.loss_config))
                steps.append(client.optim_step(session, params))
        update = PolicyUpdate(outputs=[await one for one in scored], steps=[await one for one in steps])
        ctx.write(self.into, update)
