"""What a run of reinforcement learning leaves in its folder, made of real rollouts, for tests of how it is shown."""

from collections.abc import Sequence
from pathlib import Path

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.runtime.rollout_view import view_rollouts
from crucible.runtime.token_rows import Inspection
from crucible.train.rl.advantages import advantages
from crucible.train.rl.record import learned_group, write_learned, write_rollouts
from crucible.train.rl.selection import select
from crucible.train.rl.types import TrajectoryGroup
from crucible.train.token_record import read_record, record_files, write_record
from crucible.train.token_texts import TokenReader
from sampled_groups import sample_groups, train_once


def write_run(model: Path, folder: Path, *, steps: int = 3) -> list[TrajectoryGroup]:
    """Steps of two groups of four, an evaluation after the second step, and the last step's tokens as trained."""
    groups = sample_groups(model, folder / "engine", groups=2 * steps)
    for step in range(1, steps + 1):
        record_step(folder, step, groups[2 * step - 2 : 2 * step])
    write_rollouts(folder, 2, groups[:1], purpose="eval")
    write_record(folder, train_once(model, folder / "trainer", groups[-2:], step=steps))
    return groups


def record_step(folder: Path, step: int, groups: Sequence[TrajectoryGroup]) -> None:
    """The groups, and what learning makes of them."""
    made = advantages(groups, kind="group_mean")
    left_out = select(groups, made, remove_constant_reward_groups=True).left_out
    write_rollouts(folder, step, groups)
    learned = [
        learned_group(group.index, advantages=own, left_out=reasons)
        for group, own, reasons in zip(groups, made, left_out, strict=True)
    ]
    write_learned(folder, step, learned)


def viewed(model: Path, folder: Path, *, step: int | None = None, tokens: int = 400_000) -> Inspection:
    """The run as it is shown."""
    reader = TokenReader(HfTokenizerStore(resolve_model=Path).load(str(model)))
    records = [read_record(file) for file in record_files(folder)]
    view, rows, notes = view_rollouts(folder, reader, records, step=step, tokens=tokens)
    return Inspection(title="rl", facts={"env": "say"}, notes=tuple(notes), rows=rows, rollouts=view)
