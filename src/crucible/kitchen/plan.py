"""What would a supervised run do and cost? Read off its workflow, its data and its tokenizer, before it runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from crucible.framework import Condition, Every, Named, When, Workflow
from crucible.framework.conditions import parts_of
from crucible.framework.nodes import Node, blocks_of
from crucible.kitchen.materials import only_stage
from crucible.kitchen.stages.loading import (
    BuildStreamedDataset,
    BuildSupervisedDataset,
    InitSession,
    LoadDataset,
    OpenStream,
    counted,
)
from crucible.kitchen.stages.saving import TOKENS_PASSED, SaveCheckpoint
from crucible.kitchen.stages.updating import ForwardBackward
from crucible.ports import DatasetStore, TokenizerStore, TrainingClient
from crucible.ports.dataset_store import RowSet
from crucible.ports.training_client import Estimate, Workload
from crucible.train.data import DataSurvey, require_trainable, survey

SURVEYED_ROWS = 20_000
"""Rows that are rendered to count tokens; of a larger data set the rest is taken to be like them."""
STREAMED_ROWS = 2_000
"""The same of a stream, of which no more are held."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do.

    train, heldout: the accounts of the rows. batches_per_epoch: None for a stream whose length is not known.
    steps: optimizer steps; calls_per_step: `forward_backward` calls for each. tokens: input tokens of all steps.
    checkpoints: how many would be saved, the final one included; checkpoints_kept: how many of them stay at the end,
    at most. estimate: None where the backend cannot say.
    """

    model: str
    renderer: str
    row_format: str
    train: DataSurvey
    heldout: DataSurvey | None
    batches_per_epoch: int | None
    steps: int
    calls_per_step: int
    tokens: int
    trained_tokens: int
    checkpoints: int
    checkpoints_kept: int
    estimate: Estimate | None


def plan_supervised(
    workflow: Workflow, *, datasets: DatasetStore, tokenizers: TokenizerStore, training: TrainingClient
) -> Plan:
    """The plan of a supervised workflow, from the same stages that the run would use.

    Raises:
        UnsupportedError: if the workflow is no supervised one.
        DataError, ModelError: as the run's own first stages.
    """
    load, start, build = (
        only_stage(workflow, (LoadDataset, OpenStream)),
        only_stage(workflow, (InitSession,)),
        only_stage(workflow, (BuildSupervisedDataset, BuildStreamedDataset)),
    )
    rows, heldout_rows = load.read(datasets)
    tokenizer = tokenizers.load(start.model)
    dataset = build.over(rows if isinstance(rows, RowSet) else rows.head(STREAMED_ROWS), tokenizer)
    require_trainable(dataset)
    train = survey(dataset, SURVEYED_ROWS)
    heldout = None
    if len(heldout_rows):
        heldout = survey(build.over(heldout_rows, tokenizer, row_format=dataset.row_format), SURVEYED_ROWS)
    count = len(rows) if isinstance(rows, RowSet) else rows.count() if build.max_steps else counted(rows)
    if count is None:
        batches, steps = None, build.max_steps or 0
        trained_rows = float(steps * build.batch_size)
    else:
        train = replace(train, rows=count)
        batches, steps = -(-count // build.batch_size), build.steps(count)
        trained_rows = steps / batches * count
    share = trained_rows / train.surveyed
    tokens, trained = round(input_tokens(train) * share), round(train.tokens_trained * share)
    workload = Workload(
        trained_input_tokens=tokens,
        loss_tokens=trained,
        scored_input_tokens=2 * input_tokens(heldout) if heldout else 0,
        longest=train.lengths.max if train.lengths else 0,
    )
    saved, kept = checkpoints_of(workflow, steps=steps, tokens=tokens)
    return Plan(
        model=start.model,
        renderer=dataset.renderer.name,
        row_format=dataset.row_format,
        train=train,
        heldout=heldout,
        batches_per_epoch=batches,
        steps=steps,
        calls_per_step=only_stage(workflow, (ForwardBackward,)).calls,
        tokens=tokens,
        trained_tokens=trained,
        checkpoints=saved,
        checkpoints_kept=kept,
        estimate=training.estimate(start.config(), workload),
    )


def input_tokens(rows: DataSurvey) -> int:
    """Input positions of the surveyed rows: a datum of N kept tokens has N - 1."""
    return rows.tokens_kept - rows.datums


def checkpoints_of(workflow: Workflow, *, steps: int, tokens: int) -> tuple[int, int]:
    """How many checkpoints are saved (an upper bound where two conditions may meet), and how many of them stay."""
    saved = kept = 0
    for node in _nodes(workflow.body):
        for save in node.then if isinstance(node, When) else ():
            if isinstance(node, When) and isinstance(save, SaveCheckpoint):
                due = min(steps, sum(_times(part, steps, tokens) for part in parts_of(node.condition)))
                limit = save.keep_newest + save.keep_best
                saved, kept = saved + due, kept + (min(due, max(limit, 2)) if limit else due)
    return saved + 1, kept + 1


def _times(condition: Condition, steps: int, tokens: int) -> int:
    match condition:
        case Every(n, _):
            return steps // n if n else 0
        case Named(name, options, _) if name == TOKENS_PASSED:
            return tokens // int(options["every"])
        case _:
            return 0


def _nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for block in blocks_of(node):
            yield from _nodes(block)
