"""How is one step submitted, awaited and reported?"""

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Generic, TypeVar

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext, Updates, Writes
from crucible.kitchen.scoring import token_nll
from crucible.kitchen.slots import StepStart, Totals
from crucible.kitchen.stages.accumulating import Accumulated, parts_of
from crucible.ports import TrainingClient
from crucible.ports.future import Future
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, OptimStepOutput, TrainingSession
from crucible.train.data import RenderedBatch

T = TypeVar("T")

_NOTHING = ForwardBackwardOutput(loss_fn_output_type="Nothing", loss_fn_outputs=(), metrics={})


class ForwardBackward(Stage):
    """Submit the batch; nothing is awaited. A batch whose every row was dropped submits nothing.

    calls: into how many `forward_backward` calls the batch is cut (fewer, if it has fewer datums). Losses are sums,
    so the gradients of the calls add up to that of the whole batch: only rounding depends on the cut.
    """

    ports: ClassVar = (TrainingClient,)
    session: Updates[TrainingSession]
    batch: Reads[RenderedBatch]
    into: Writes[Future[ForwardBackwardOutput]]
    loss_fn: str = "cross_entropy"
    calls: int = 1

    def check(self) -> Iterable[Problem]:
        if self.calls < 1:
            yield Problem(what="must be at least 1", where="calls", given=str(self.calls))

    async def execute(self, ctx: StageContext) -> None:
        datums = ctx.read(self.batch).datums
        if not datums:
            ctx.write(self.into, Future.ready(_NOTHING))
            return
        client, session = ctx.port(TrainingClient), ctx.read(self.session)
        futures = [
            client.forward_backward(session, part, loss_fn=self.loss_fn, logprobs="weighted")
            for part in parts_of(datums, self.calls)
        ]
        ctx.write(self.into, futures[0] if len(futures) == 1 else Accumulated(futures))


class OptimStep(Stage):
    """Submit the optimizer step at the step's learning rate; nothing is awaited.

    A batch whose every row was dropped takes no optimizer step: Adam's momentum would move the weights.
    """

    ports: ClassVar = (TrainingClient,)
    session: Updates[TrainingSession]
    batch: Reads[RenderedBatch]
    start: Reads[StepStart]
    into: Writes[Future[OptimStepOutput]]
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0

    async def execute(self, ctx: StageContext) -> None:
        if not ctx.read(self.batch).datums:
            ctx.write(self.into, Future.ready(OptimStepOutput(metrics={})))
            return
        params = AdamParams(
            learning_rate=ctx.read(self.start).learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            grad_clip_norm=self.grad_clip_norm,
        )
        ctx.write(self.into, ctx.port(TrainingClient).optim_step(ctx.read(self.session), params))


class AwaitFuture(Stage, Generic[T]):
    """Await what an earlier stage submitted; its failure is raised here."""

    future: Reads[Future[T]]
    into: Writes[T]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, await ctx.read(self.future))


class LogStepMetrics(Stage):
    """Record the step's numbers, and announce `training.step`.

    Recorded (a function of config, data and seed): loss (mean negative log-likelihood per trained token, in
    nats), learning_rate, epoch, tokens, trained_tokens, rows, rows_dropped, rows_truncated, and the backend's
    grad_norm. Announced beside them: seconds and tokens per second.
    """

    start: Reads[StepStart]
    batch: Reads[RenderedBatch]
    result: Reads[ForwardBackwardOutput]
    optim: Reads[OptimStepOutput]
    total_steps: Reads[int]
    totals: Updates[Totals]
    settled_at: Updates[float]

    async def execute(self, ctx: StageContext) -> None:
        start, batch, result = ctx.read(self.start), ctx.read(self.batch), ctx.read(self.result)
        now = time.perf_counter()
        seconds = now - max(start.at, ctx.read(self.settled_at))
        dropped = sum(rows.count for rows in batch.dropped.values())
        values: dict[str, float] = {
            "epoch": start.epoch,
            "learning_rate": start.learning_rate,
            "tokens": batch.tokens,
            "trained_tokens": batch.trained_tokens,
            "rows": len(batch.datums),
            "rows_dropped": dropped,
            "rows_truncated": batch.truncated,
        }
        if batch.datums:
            values["loss"] = token_nll(result.loss_fn_outputs, batch.datums)
        values.update(ctx.read(self.optim).metrics)
        ctx.record_metrics(start.step, values)
        speed = batch.tokens / seconds if seconds > 0 else 0.0
        ctx.emit(
            "training.step",
            {
                **values,
                "step": start.step,
                "total_steps": ctx.read(self.total_steps),
                "seconds": seconds,
                "tokens_per_second": speed,
            },
            {"dropped": {reason: rows.example for reason, rows in batch.dropped.items()}},
        )
        totals = ctx.read(self.totals)
        ctx.write(
            self.totals,
            replace(
                totals,
                steps=totals.steps + 1,
                tokens=totals.tokens + batch.tokens,
                trained_tokens=totals.trained_tokens + batch.trained_tokens,
                rows_dropped=totals.rows_dropped + dropped,
                rows_truncated=totals.rows_truncated + batch.truncated,
                seconds=totals.seconds + seconds,
            ),
        )
        ctx.write(self.settled_at, now)


class StartClock(Stage):
    """Note the time, so that the first step is not charged for what came before it."""

    into: Writes[float]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, time.perf_counter())


class FinishEpoch(Stage):
    """Announce `training.epoch` when an epoch's steps are settled."""

    epoch: Reads[int]
    totals: Reads[Totals]

    async def execute(self, ctx: StageContext) -> None:
        totals = ctx.read(self.totals)
        ctx.emit(
            "training.epoch",
            {"epoch": ctx.read(self.epoch), "steps": totals.steps, "tokens": totals.tokens},
            {},
        )
