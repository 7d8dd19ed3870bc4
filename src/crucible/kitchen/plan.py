"""What would a supervised run do and cost? Read off its workflow, its data and its tokenizer, before it runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from crucible.errors import UnsupportedError
from crucible.framework import Every, Stage, When, Workflow
from crucible.framework.nodes import Node, blocks_of
from crucible.kitchen.stages.loading import BuildSupervisedDataset, InitSession, LoadDataset, load_rows, steps_of
from crucible.kitchen.stages.saving import SaveCheckpoint
from crucible.ports import DatasetStore, TokenizerStore, TrainingClient
from crucible.ports.training_client import Estimate, SessionConfig, Workload
from crucible.train.data import DataSurvey, require_trainable, survey

S = TypeVar("S", bound=Stage)

SURVEYED_ROWS = 20_000
"""Rows that are rendered to count tokens; of a larger data set the rest is taken to be like them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do.

    train, heldout: the accounts of the rows. steps: optimizer steps. tokens: input tokens of all steps.
    checkpoints: how many would be saved, the final one included. estimate: None where the backend cannot say.
    """

    model: str
    renderer: str
    row_format: str
    train: DataSurvey
    heldout: DataSurvey | None
    batches_per_epoch: int
    steps: int
    tokens: int
    trained_tokens: int
    checkpoints: int
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
        _only(workflow, LoadDataset),
        _only(workflow, InitSession),
        _only(workflow, BuildSupervisedDataset),
    )
    rows, heldout_rows = load_rows(
        datasets,
        reference=load.reference,
        split=load.split,
        heldout_reference=load.heldout_reference,
        heldout_split=load.heldout_split,
        holdout=load.holdout,
        limit=load.limit,
        seed=load.seed,
    )
    tokenizer = tokenizers.load(start.model)
    dataset = build.over(rows, tokenizer)
    require_trainable(dataset)
    train = survey(dataset, SURVEYED_ROWS)
    heldout = None
    if len(heldout_rows):
        heldout = survey(build.over(heldout_rows, tokenizer, row_format=dataset.row_format), SURVEYED_ROWS)
    steps = steps_of(dataset.n_batches, epochs=build.epochs, max_steps=build.max_steps)
    share = steps / dataset.n_batches * train.rows / train.surveyed
    tokens, trained = round(input_tokens(train) * share), round(train.tokens_trained * share)
    workload = Workload(
        trained_input_tokens=tokens,
        loss_tokens=trained,
        scored_input_tokens=2 * input_tokens(heldout) if heldout else 0,
        longest=train.lengths.max if train.lengths else 0,
    )
    config = SessionConfig(
        model=start.model,
        lora_rank=start.lora_rank,
        lora_alpha=start.lora_alpha,
        train_attn=start.train_attn,
        train_mlp=start.train_mlp,
        train_unembed=start.train_unembed,
    )
    return Plan(
        model=start.model,
        renderer=dataset.renderer.name,
        row_format=dataset.row_format,
        train=train,
        heldout=heldout,
        batches_per_epoch=dataset.n_batches,
        steps=steps,
        tokens=tokens,
        trained_tokens=trained,
        checkpoints=_checkpoints(workflow, steps),
        estimate=training.estimate(config, workload),
    )


def input_tokens(rows: DataSurvey) -> int:
    """Input positions of the surveyed rows: a row of N kept tokens has N - 1."""
    return rows.tokens_kept - rows.usable


def _checkpoints(workflow: Workflow, steps: int) -> int:
    every = 0
    for node in _nodes(workflow.body):
        if isinstance(node, When) and isinstance(node.condition, Every) and _saves(node):
            every = node.condition.n
    return (steps // every if every else 0) + 1


def _saves(node: When) -> bool:
    return any(isinstance(inner, SaveCheckpoint) for inner in node.then)


def _only(workflow: Workflow, kind: type[S]) -> S:
    found = [node for node in _nodes(workflow.body) if isinstance(node, kind)]
    if len(found) != 1:
        raise UnsupportedError.of(
            f"only a supervised workflow can be planned, and this one has {len(found)} {kind.__name__} stages",
            where=workflow.name,
        )
    return found[0]


def _nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for block in blocks_of(node):
            yield from _nodes(block)
