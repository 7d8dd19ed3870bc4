"""When and how are weights saved?"""

from typing import Any, ClassVar

from crucible.framework import Reads, Stage, StageContext
from crucible.ports import TrainingClient
from crucible.ports.training_client import TrainingSession


class SaveCheckpoint(Stage):
    """Ask for a checkpoint of this step: a line in `checkpoints.jsonl`, from which the run can be continued.

    It stands on the submitting side of the loop: a checkpoint never holds an update of a later step, however deep
    the pipeline.
    """

    checkpoints: ClassVar[bool] = True
    step: Reads[int]
    epoch: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        step = ctx.read(self.step)
        ctx.record_checkpoint({"name": f"step-{step:06d}", "step": step, "epoch": ctx.read(self.epoch)})


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
    session: Reads[TrainingSession]

    async def execute(self, ctx: StageContext) -> None:
        await ctx.port(TrainingClient).close_session(ctx.read(self.session))
