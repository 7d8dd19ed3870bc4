"""When and how are weights saved?"""

import time
from collections.abc import Iterable
from typing import Any, ClassVar

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext, Updates, register_condition
from crucible.framework.entries import Keep
from crucible.ports import TrainingClient
from crucible.ports.training_client import TrainingSession
from crucible.train.data import RenderedBatch

TOKENS_PASSED = "tokens_passed"


@register_condition(TOKENS_PASSED)
def tokens_passed(*, tokens: int, batch: RenderedBatch, every: int) -> bool:
    """Whether the last batch took the count of tokens to or past a multiple of `every`."""
    return tokens // every > (tokens - batch.tokens) // every


class SaveCheckpoint(Stage):
    """Ask for a checkpoint of this step: a line in `checkpoints.jsonl`, from which the run can be continued.

    It stands on the submitting side of the loop: a checkpoint never holds an update of a later step, however deep
    the pipeline.

    keep_newest, keep_best: how many of this stage's checkpoints stay; the best have the lowest (highest) `metric` at
    their own step. Both 0: all. ttl_seconds: one that is older goes unless it is one of the best; 0: at no age. The
    two newest of the run stay in any case.
    """

    checkpoints: ClassVar[bool] = True
    step: Reads[int]
    epoch: Reads[int]
    keep_newest: int = 0
    keep_best: int = 0
    metric: str = "eval/nll"
    highest: bool = False
    ttl_seconds: float = 0.0

    def check(self) -> Iterable[Problem]:
        for name in ("keep_newest", "keep_best", "ttl_seconds"):
            if getattr(self, name) < 0:
                yield Problem(what="must be 0 or more", where=name, given=str(getattr(self, name)))

    async def execute(self, ctx: StageContext) -> None:
        step = ctx.read(self.step)
        keep = Keep(
            newest=self.keep_newest,
            best=self.keep_best,
            metric=self.metric,
            highest=self.highest,
            ttl_seconds=self.ttl_seconds,
        )
        limited = bool(keep.newest or keep.best or keep.ttl_seconds)
        line = {"name": f"step-{step:06d}", "step": step, "epoch": ctx.read(self.epoch)}
        ctx.record_checkpoint(line, keep=keep if limited else None)


class SaveNowAndThen(Stage):
    """Ask for a checkpoint when `seconds` have gone by since this stage asked for one, or since training began.

    When that is depends on the machine, so the checkpoint has no line, and the next one of any kind replaces it.
    """

    checkpoints: ClassVar[bool] = True
    saved_at: Updates[float]
    seconds: float

    def check(self) -> Iterable[Problem]:
        if not self.seconds > 0:
            yield Problem(what="must be more than 0", where="seconds", given=str(self.seconds))

    async def execute(self, ctx: StageContext) -> None:
        now = time.perf_counter()
        if now - ctx.read(self.saved_at) >= self.seconds:
            ctx.record_checkpoint(None)
            ctx.write(self.saved_at, now)


class SaveFinalWeights(Stage):
    """Save the final training state, and the weights alone for sampling and export."""

    ports: ClassVar = (TrainingClient,)
    checkpoints: ClassVar[bool] = True
    session: Reads[TrainingSession]
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        client, session = ctx.port(TrainingClient), ctx.read(self.session)
        sampler = await client.save_weights_for_sampler(session, "final-sampler", overwrite=True)
        line: dict[str, Any] = {
            "name": "final",
            "step": ctx.read(self.step),
            "final": True,
            "sampler_path": ctx.recorded(sampler.path),
        }
        ctx.record_checkpoint(line, publish_as="final_checkpoint")
        ctx.record_artifact("final_sampler_weights", sampler.path)


class CloseSession(Stage):
    """Free the session."""

    ports: ClassVar = (TrainingClient,)
    closes: ClassVar = ("session",)
    session: Reads[TrainingSession]

    async def execute(self, ctx: StageContext) -> None:
        await ctx.port(TrainingClient).close_session(ctx.read(self.session))
