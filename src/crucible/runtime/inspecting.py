"""What does, or did, the model see? The rows of a recipe's data, or of a run's folder, as tokens with their weights."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from crucible.errors import ConfigError, DataError, PortError, Problem, UserError
from crucible.framework import read_history
from crucible.kitchen.config import Layer
from crucible.kitchen.materials import Materials, gather
from crucible.kitchen.rl_doctor import is_rl
from crucible.ports import DatasetStore, TokenizerStore
from crucible.ports.dataset_store import Row, RowSet
from crucible.runtime import rollout_view
from crucible.runtime.blocking import block_on
from crucible.runtime.facade import build_ports, prepare
from crucible.runtime.finished import FinishedRun, open_run
from crucible.runtime.prepared import Prepared
from crucible.runtime.problem_view import inspect_problems
from crucible.runtime.token_rows import Inspection, ViewRow, recorded_views, rendered_views
from crucible.runtime.wiring import Override
from crucible.train.data.streamed import StreamedBatch
from crucible.train.rl.record import rollout_files
from crucible.train.token_record import StepRecord, read_record, record_files
from crucible.train.token_texts import TokenReader

NOOP = "noop"
"""The adapter whose numbers follow no model."""


def inspect_data(
    name: str,
    config: Mapping[str, object] | Sequence[Layer] | None = None,
    *,
    manifest: str | None = None,
    adapters: Mapping[str, Override] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    rows: int = 8,
    start: int = 0,
) -> Inspection:
    """The recipe's training rows `start` to `start + rows`, in the order of the data, as a run would render them; of
    reinforcement learning, its problems, in the order of the run.

    Raises:
        UserError: if anything that the user gave is wrong.
    """
    prepared = prepare(name, config, manifest=manifest, adapters=adapters, options=options)
    with closing(prepared.wiring):
        if is_rl(prepared.workflow):
            datasets, tokenizers = _stores(prepared)
            asked = inspect_problems(
                name, prepared.workflow, datasets=datasets, tokenizers=tokenizers, rows=rows, start=start
            )
            return block_on(asked)
        materials = _materials(prepared)
        reader = TokenReader(materials.tokenizer)
        source = materials.rows
        views: list[ViewRow] = []
        for index, values in islice(enumerate(source), start, start + rows):
            views += rendered_views(
                materials.dataset.rendering, values, row=index, origin=source.origin(index), reader=reader
            )
    if not views:
        held = f"{len(source):,}" if isinstance(source, RowSet) else "fewer"
        raise DataError.of(f"the data has no row {start + 1:,}: it has {held}", where=source.name)
    notes = () if materials.dataset.rendering.renderer.verified else (_UNVERIFIED,)
    return Inspection(title=name, facts=_facts_of_data(materials), notes=notes, rows=tuple(views))


def inspect_run(
    run_dir: Path, *, rows: int = 32, step: int | None = None, tokens: int = rollout_view.TOKENS
) -> Inspection:
    """What the model saw in a run: its token records, all of them. Of a run without any, the first `rows` rows that
    it trains on, rendered again. Of a run of reinforcement learning, its rollouts, with what was trained of them.

    step: only what this step saw. tokens: of how many tokens rollouts are shown, those that tell most first.

    Raises:
        UserError: if it is no run folder, a record is damaged, the step is not recorded, or its rows cannot be
            rendered any more.
    """
    run = open_run(run_dir)
    started = _Started.of(run)
    if rollout_files(run_dir) or rollout_files(run_dir, "eval"):
        reader, notes = _reader(run, started)
        if started.backend == NOOP:
            notes.append(_FAKE)
        records = _read_all(record_files(run_dir))
        view, views, said = rollout_view.view_rollouts(run_dir, reader, records, step=step, tokens=tokens)
        return Inspection(
            title=run_dir.resolve().name,
            facts={**_facts_of(run), "backend": started.backend},
            notes=(*notes, *said),
            rows=views,
            rollouts=view,
        )
    found = _seen(run, started, rows=rows)
    if step is None:
        return found
    chosen = tuple(row for row in found.rows if row.step == step)
    if not chosen:
        steps = ", ".join(str(one) for one in sorted({row.step for row in found.rows if row.step is not None}))
        raise ConfigError.of("this step is not recorded", where="--step", given=str(step), fix=f"Recorded: {steps}")
    return replace(found, rows=chosen)


def _seen(run: FinishedRun, started: "_Started", *, rows: int) -> Inspection:
    """The token records of a run that trains on rows of data."""
    title, facts = run.run_dir.resolve().name, {**_facts_of(run), "backend": started.backend}
    files = record_files(run.run_dir)
    if not files:
        views = tuple(_rendered_again(run, started, rows))
        note = (
            f"this run has recorded no tokens: these are the first {len(views)} rows that it trains on, rendered again "
            "from its experiment.json, without logprobs"
        )
        return Inspection(title=title, facts=facts, notes=(note,), rows=views)
    records = _read_all(files)
    reader, notes = _reader(run, started)
    if started.backend == NOOP:
        notes.append(_FAKE)
    for record in records:
        if record.not_kept:
            notes.append(f"step {record.step}: {record.not_kept} further row(s) were trained on and not recorded")
    views = tuple(view for record in records for view in recorded_views(record, reader))
    facts["recorded steps"] = ", ".join(f"{record.step:,}" for record in records)
    return Inspection(title=title, facts=facts, notes=tuple(notes), rows=views)


_FAKE = "the backend of this run is a fake: its logprobs follow no model"
_UNVERIFIED = "this renderer is unverified: its tokens were not compared with the model's own template"


@dataclass(frozen=True, kw_only=True)
class _Started:
    """How a run was started: enough to find its tokenizer and its data again."""

    manifest: str | None
    adapters: Mapping[str, Any]
    options: Mapping[str, Any]
    backend: str

    @classmethod
    def of(cls, run: FinishedRun) -> "_Started":
        facts = read_history(run.run_dir).facts
        adapters: Mapping[str, Any] = facts.get("adapters") or {}
        ports: Mapping[str, Any] = facts.get("ports") or {}
        return cls(
            manifest=facts.get("manifest"),
            # Of an adapter that was an object, a folder keeps only that there was one: the manifest's is used.
            adapters={port: choice for port, choice in adapters.items() if choice is not None},
            options=facts.get("options") or {},
            backend=str(ports.get("training_client", "unknown")),
        )


def _read_all(files: Iterable[Path]) -> list[StepRecord]:
    records: list[StepRecord] = []
    problems: list[Problem] = []
    for file in files:
        try:
            records.append(read_record(file))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return records


def _reader(run: FinishedRun, started: _Started) -> tuple[TokenReader, list[str]]:
    """What reads the run's tokens: its model's tokenizer, or, with a note, nothing but ids."""
    if "model" not in run.config:
        return TokenReader(None), ["the run's config names no model, so tokens are shown by their ids"]
    try:
        with closing(build_ports(started.manifest, started.adapters, options=started.options)) as wiring:
            store = wiring.port(TokenizerStore.port_name)
            assert isinstance(store, TokenizerStore)
            return TokenReader(store.load(run.model)), []
    except (UserError, PortError) as error:
        return TokenReader(None), [f"the run's tokenizer is not here, so tokens are shown by their ids: {error}"]


def _rendered_again(run: FinishedRun, started: _Started, rows: int) -> Iterator[ViewRow]:
    prepared = prepare(run.experiment, manifest=started.manifest, adapters=started.adapters, options=started.options)
    with closing(prepared.wiring):
        materials = _materials(prepared)
        reader = TokenReader(materials.tokenizer)
        for step, index, values in islice(_in_order(materials), rows):
            yield from rendered_views(
                materials.dataset.rendering,
                values,
                row=index,
                origin=materials.rows.origin(index),
                reader=reader,
                step=step,
            )


def _in_order(materials: Materials) -> Iterator[tuple[int, int, Row]]:
    """(step, index, row) of the first epoch."""
    for step, batch in enumerate(materials.dataset.epoch(0), start=1):
        for place, index in enumerate(batch.rows):
            if isinstance(batch, StreamedBatch):
                yield step, index, batch.values[place]
            else:
                assert isinstance(materials.rows, RowSet), "only streams give batches that hold their rows"
                yield step, index, materials.rows[index]


def _materials(prepared: Prepared) -> Materials:
    datasets, tokenizers = _stores(prepared)
    return gather(prepared.workflow, datasets=datasets, tokenizers=tokenizers)


def _stores(prepared: Prepared) -> tuple[DatasetStore, TokenizerStore]:
    datasets = prepared.wiring.port(DatasetStore.port_name)
    tokenizers = prepared.wiring.port(TokenizerStore.port_name)
    assert isinstance(datasets, DatasetStore)
    assert isinstance(tokenizers, TokenizerStore)
    return datasets, tokenizers


def _facts_of_data(materials: Materials) -> dict[str, str]:
    rendering, source = materials.dataset.rendering, materials.rows
    return {
        "model": materials.session.model,
        "data": source.name + (f", {len(source):,} rows" if isinstance(source, RowSet) else ", a stream"),
        "read as": rendering.row_format,
        "renderer": rendering.renderer.name,
        "train_on": rendering.train_on.value,
        "max_length": f"{rendering.max_length:,}" if rendering.max_length else "none",
    }


def _facts_of(run: FinishedRun) -> dict[str, str]:
    keys = ("model", "dataset", "env", "renderer", "train_on", "max_length", "group_size", "groups_per_batch")
    keys += ("max_tokens", "temperature", "loss", "learning_rate", "seed")
    return {"recipe": run.experiment.id, **{key: str(run.config[key]) for key in keys if key in run.config}}
