"""What is wrong with a supervised run, its backend included? Examined from its own stages, without running it."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from crucible.errors import ConfigError, Problem, did_you_mean
from crucible.framework import Workflow, stages_in
from crucible.kitchen import slots as s
from crucible.kitchen.backend_checks import BACKEND_CHECKS, Bench, check_backend, tolerance_of
from crucible.kitchen.materials import Materials, gather, only_stage
from crucible.kitchen.stages.batching import GetBatch
from crucible.kitchen.stages.examining import ExamineData, waived
from crucible.kitchen.stages.updating import ForwardBackward
from crucible.ports import DatasetStore, TokenizerStore, TrainingClient
from crucible.ports.dataset_store import RowSet
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.train.checks import CHECKS, Finding, examine

FULL_ROWS = 2_000
"""Rows that are rendered on demand: ten times what a run looks at, and some seconds."""
BACKEND_ROWS = 200
"""First rows among which those for the backend's checks are taken."""
BACKEND_TOKENS = (64, 56, 40, 24)
"""Of each such row the last so many positions: lengths that differ, so that a batch is packed or padded, and so few
that all checks take half a minute of one core for a model of 135 M parameters."""


async def diagnose(
    workflow: Workflow,
    *,
    datasets: DatasetStore,
    tokenizers: TokenizerStore,
    training: TrainingClient,
    only: Collection[str] = (),
) -> list[Finding]:
    """Every check, or those named by `only`: of the data as the run makes them, then of the backend.

    A check that fails and that the workflow waives is a warning.

    Raises:
        ConfigError: if `only` names a check that does not exist.
        UnsupportedError: if the workflow is no supervised one.
        DataError, ModelError: if rows, tokenizer or model cannot be read at all.
    """
    _require_known(only)
    materials = gather(workflow, datasets=datasets, tokenizers=tokenizers)
    examiner = replace(_examiner(workflow, materials), rows=FULL_ROWS, characters=None)
    findings: list[Finding] = []
    if not only or not CHECKS.keys().isdisjoint(only):
        findings = examine(examiner.look(materials.dataset, materials.heldout, training), only=only)
    if not only or not BACKEND_CHECKS.keys().isdisjoint(only):
        findings += await check_backend(await _bench(workflow, materials, training), only=only)
    return waived(findings, examiner.waive)


def _require_known(only: Collection[str]) -> None:
    known = [*CHECKS, *BACKEND_CHECKS]
    problems = [
        Problem(what="there is no such check", where="--only", given=name, fix=did_you_mean(name, known))
        for name in only
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)


def _examiner(workflow: Workflow, materials: Materials) -> ExamineData:
    """The workflow's own stage; one like it for a workflow that does not examine its data."""
    stages = list(stages_in(workflow.body))
    for stage in stages:
        if isinstance(stage, ExamineData):
            return stage
    rates = [stage.learning_rate for stage in stages if isinstance(stage, GetBatch)]
    return ExamineData(
        "examine_data",
        dataset=s.DATASET,
        heldout=s.HELDOUT,
        model=materials.session.model,
        learning_rate=max(rates, default=None),
    )


async def _bench(workflow: Workflow, materials: Materials, training: TrainingClient) -> Bench:
    chosen = list(_datums(materials))
    return Bench(
        client=training,
        session=materials.session,
        datums=[datum for datum, _ in chosen],
        origins=[origin for _, origin in chosen],
        loss_fn=only_stage(workflow, (ForwardBackward,)).loss_fn,
        tolerance=await tolerance_of(training),
    )


def _datums(materials: Materials) -> Iterator[tuple[Datum, str]]:
    """The ends of the first rows that are long enough and train something there."""
    rows = materials.rows if isinstance(materials.rows, RowSet) else materials.rows.head(BACKEND_ROWS)
    first = range(min(BACKEND_ROWS, len(rows)))
    seen = materials.dataset.rendering.batch((index, rows[index], rows.origin(index)) for index in first)
    lengths = list(BACKEND_TOKENS)
    for datum, row in zip(seen.datums, seen.rows, strict=True):
        end = _end(datum, lengths[0])
        if end is not None:
            yield end, rows.origin(row)
            lengths.pop(0)
        if not lengths:
            return


def _end(datum: Datum, length: int) -> Datum | None:
    """The last `length` positions, all of them where there are fewer; None if nothing is trained there."""
    tensors = {name: TensorData(tensor.data[-length:].copy()) for name, tensor in datum.loss_fn_inputs.items()}
    if not tensors["weights"].data.any():
        return None
    return Datum(ModelInput.from_ints(datum.model_input.to_ints()[-length:]), tensors)
