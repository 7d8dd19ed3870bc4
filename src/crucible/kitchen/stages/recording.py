"""What did the model see in a step? Written down, token by token, while the run goes on."""

import asyncio
from collections.abc import Iterable

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.slots import StepStart
from crucible.ports.training_client import ForwardBackwardOutput
from crucible.train.data import RenderedBatch, StreamedDataset, SupervisedDataset, TrainingData
from crucible.train.token_record import (
    VERSION,
    DroppedRows,
    StepRecord,
    is_due,
    keep_within,
    recorded_row,
    write_record,
)


class RecordTokens(Stage):
    """Write what the step was trained on to `tokens/` of the run's folder: tokens, loss weights, logprobs.

    every: which steps: every n; 0 means 1, 2, 4, 8, 16, ..., so that a run's beginning is seen closely and a long
    run costs little; -1 none. max_tokens: a step's first rows up to so many tokens are kept, and the rest counted.
    """

    dataset: Reads[TrainingData]
    start: Reads[StepStart]
    batch: Reads[RenderedBatch]
    result: Reads[ForwardBackwardOutput]
    every: int = 0
    max_tokens: int = 65_536

    def check(self) -> Iterable[Problem]:
        if self.every < -1:
            yield Problem(what="is -1 (none), 0 (1, 2, 4, 8, ...) or n", where="every", given=str(self.every))
        if self.max_tokens < 1:
            yield Problem(what="must be at least 1", where="max_tokens", given=str(self.max_tokens))

    async def execute(self, ctx: StageContext) -> None:
        start, folder = ctx.read(self.start), ctx.run.run_dir
        if folder is None or not is_due(start.step, self.every):
            return
        dataset, batch = ctx.read(self.dataset), ctx.read(self.batch)
        outputs = ctx.read(self.result).loss_fn_outputs

        def write() -> None:
            rows = (
                recorded_row(datum, output, row=row, origin=_origin(dataset, row), cut_tokens=cut)
                for datum, output, row, cut in zip(batch.datums, outputs, batch.rows, batch.cut_tokens, strict=True)
            )
            kept, not_kept = keep_within(rows, tokens=self.max_tokens)
            dropped = [
                DroppedRows(reason=reason, count=rows.count, first_origin=rows.first_origin, example=rows.example)
                for reason, rows in batch.dropped.items()
            ]
            record = StepRecord(
                version=VERSION, step=start.step, epoch=start.epoch, rows=kept, dropped=dropped, not_kept=not_kept
            )
            write_record(folder, record)

        await asyncio.to_thread(write)


def _origin(dataset: TrainingData, row: int) -> str:
    if isinstance(dataset, SupervisedDataset | StreamedDataset):
        return dataset.rows.origin(row)
    return f"row {row + 1}"
