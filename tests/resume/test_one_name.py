"""May a workflow give all of its checkpoints one name? Yes: none that a point refers to is overwritten."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
from faulty import bytes_of, resumed

import crucible
from crucible.framework import Every, Loop, Range, Reads, Stage, StageContext, Updates, When, Workflow, Writes
from crucible.kitchen import slots as s
from crucible.ports import TrainingClient
from crucible.ports.training_client import AdamParams, SessionConfig, TrainingSession

LOCAL: dict[str, Any] = {"manifest": "local", "options": {"torch": {"threads": 1}}}


class Begin(Stage):
    """Start a session, and count from 0."""

    ports: ClassVar = (TrainingClient,)
    model: str
    session: Writes[TrainingSession]
    step: Writes[int]

    async def execute(self, ctx: StageContext) -> None:
        config = SessionConfig(model=self.model, lora_rank=2, seed=0)
        ctx.write(self.session, await ctx.port(TrainingClient).start_session(config))
        ctx.write(self.step, 0)


class Update(Stage):
    """An update of the weights, and the step's number."""

    ports: ClassVar = (TrainingClient,)
    session: Reads[TrainingSession]
    step: Updates[int]

    async def execute(self, ctx: StageContext) -> None:
        await ctx.port(TrainingClient).optim_step(ctx.read(self.session), AdamParams(learning_rate=1e-3))
        ctx.write(self.step, ctx.read(self.step) + 1)


class SaveLatest(Stage):
    """Ask for a checkpoint, always under the same name."""

    checkpoints: ClassVar = True
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_checkpoint({"name": "latest", "step": ctx.read(self.step)})


def saving_under_one_name(model: Path) -> Workflow:
    return Workflow(
        "latest",
        body=[
            Begin("begin", model=str(model), session=s.SESSION, step=s.STEP),
            Loop(
                "steps",
                over=Range(6),
                body=[
                    Update("update", session=s.SESSION, step=s.STEP),
                    When(Every(2, of=s.STEP), [SaveLatest("save", step=s.STEP)]),
                ],
            ),
        ],
    )


@pytest.mark.parametrize("lines", [1, 2])
def test_a_checkpoint_that_the_last_point_needs_is_never_overwritten(
    lines: int, tiny_model: Path, tmp_path: Path
) -> None:
    """A kill between a checkpoint and its record, in a workflow that gives all of them one name."""
    made = saving_under_one_name(tiny_model)
    crucible.run(made, run_dir=tmp_path / "straight" / "run", **LOCAL)
    run_dir = shutil.copytree(tmp_path / "straight" / "run", tmp_path / "run")
    (run_dir / "summary.json").unlink()
    kept = (run_dir / "journal.jsonl").read_bytes().splitlines(keepends=True)[: 1 + lines]
    (run_dir / "journal.jsonl").write_bytes(b"".join(kept))
    assert resumed(run_dir, made, **LOCAL) == (f"steps[{2 * lines}]", [])
    assert bytes_of(run_dir) == bytes_of(tmp_path / "straight" / "run")
