"""Which rows make up the next step, and what do they look like to the model?"""

import time
from collections.abc import Iterable

from crucible.errors import ConfigError, Problem
from crucible.framework import Reads, Stage, StageContext, Updates, Writes
from crucible.kitchen.slots import StepStart
from crucible.train.data import BatchRows, RenderedBatch, TrainingData
from crucible.train.schedules import check_schedule, lr_at


class SetEpoch(Stage):
    """Put the rows in this epoch's order."""

    dataset: Reads[TrainingData]
    epoch: Reads[int]
    batches: Writes[Iterable[BatchRows]]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.batches, ctx.read(self.dataset).epoch(ctx.read(self.epoch)))


class GetBatch(Stage):
    """Go to the next step: advance the step counter and fix the step's learning rate.

    The rate is fixed here, on the submitting side, so that it does not depend on how many steps are in flight.
    """

    step: Updates[int]
    epoch: Reads[int]
    total_steps: Reads[int]
    into: Writes[StepStart]
    learning_rate: float
    lr_schedule: str = "linear"
    warmup_steps: int = 0

    def check(self) -> Iterable[Problem]:
        try:
            check_schedule(base=self.learning_rate, schedule=self.lr_schedule, warmup_steps=self.warmup_steps)
        except ConfigError as error:
            return error.problems
        return ()

    async def execute(self, ctx: StageContext) -> None:
        step = ctx.read(self.step) + 1
        rate = lr_at(
            step - 1,
            ctx.read(self.total_steps),
            base=self.learning_rate,
            schedule=self.lr_schedule,
            warmup_steps=self.warmup_steps,
        )
        ctx.write(self.step, step)
        start = StepStart(step=step, epoch=ctx.read(self.epoch), learning_rate=rate, at=time.perf_counter())
        ctx.write(self.into, start)


class RenderBatch(Stage):
    """Render the batch's rows to datums; rows that train nothing are dropped with a reason.

    Counts the input tokens that were submitted so far: the same at every depth of the pipeline.
    """

    dataset: Reads[TrainingData]
    rows: Reads[BatchRows]
    into: Writes[RenderedBatch]
    tokens: Updates[int]

    async def execute(self, ctx: StageContext) -> None:
        batch = ctx.read(self.dataset).render(ctx.read(self.rows))
        ctx.write(self.into, batch)
        ctx.write(self.tokens, ctx.read(self.tokens) + batch.tokens)
