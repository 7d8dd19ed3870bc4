"""When and how are weights saved?"""

from typing import Any, ClassVar

from crucible.framework import Reads, Stage, StageContext
from crucible.ports import TrainingClient
from crucible.ports.training_client import TrainingSession


class SaveCheckpoint(Stage):
    """Save adapter and optimizer as of this step, and record it in `checkpoints.jsonl`.

    It stands on the submitting side of the loop, before the next step is submitted: a checkpoint never holds
    an update of a later step, however deep the pipeline.
    """

    ports: ClassVar = (TrainingClient,)
    session: Reads[TrainingSession]
    step: Reads[int]
    epoch: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        step = ctx.read(self.step)
        name = f"step-{step:06d}"
        saved = await ctx.port(TrainingClient).save_checkpoint(ctx.read(self.session), name)
        _record(ctx, {"name": name, "step": step, "epoch": ctx.read(self.epoch), "state_path": saved.path})


class SaveFinalWeights(Stage):
    """Save the final training state, and the weights alone for sampling and export."""

    ports: ClassVar = (TrainingClient,)
    session: Reads[TrainingSession]
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        client, session = ctx.port(TrainingClient), ctx.read(self.session)
        state = client.save_checkpoint(session, "final")
        sampler = client.save_weights_for_sampler(session, "final-sampler")
        state_path, sampler_path = (await state).path, (await sampler).path
        _record(
            ctx,
            {
                "name": "final",
                "step": ctx.read(self.step),
                "final": True,
                "state_path": state_path,
                "sampler_path": sampler_path,
            },
        )
        ctx.record_artifact("final_checkpoint", state_path)
        ctx.record_artifact("final_sampler_weights", sampler_path)
        ctx.record_result("final_checkpoint", state_path)


def _record(ctx: StageContext, record: dict[str, Any]) -> None:
    ctx.record_checkpoint(record)
    ctx.emit("training.checkpoint", {"step": record["step"]}, {"name": record["name"], "path": record["state_path"]})


class CloseSession(Stage):
    """Free the session."""

    ports: ClassVar = (TrainingClient,)
    session: Reads[TrainingSession]

    async def execute(self, ctx: StageContext) -> None:
        await ctx.port(TrainingClient).close_session(ctx.read(self.session))
