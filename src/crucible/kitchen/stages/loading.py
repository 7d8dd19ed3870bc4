"""How does a run get its rows, its session, its tokenizer and its data set?"""

from collections.abc import Iterable
from typing import ClassVar

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext, Updates, Writes
from crucible.kitchen.slots import Totals
from crucible.ports import DatasetStore, Tokenizer, TokenizerStore, TrainingClient
from crucible.ports.dataset_store import RowSet
from crucible.ports.training_client import SessionConfig, TrainingSession
from crucible.train.data import SupervisedDataset, require_trainable, split_rows
from crucible.train.renderers import get_renderer, renderer_problems


class LoadDataset(Stage):
    """Read the training rows and the held-out rows.

    Held-out rows come from `heldout_reference` or `heldout_split` when one is given, else `holdout` rows are
    drawn from the training rows by `seed` and taken out of them.
    """

    ports: ClassVar = (DatasetStore,)
    reference: str
    rows: Writes[RowSet]
    heldout: Writes[RowSet]
    split: str = "train"
    heldout_reference: str = ""
    heldout_split: str = ""
    holdout: int = 0
    limit: int | None = None
    seed: int = 0

    async def execute(self, ctx: StageContext) -> None:
        train, heldout = load_rows(
            ctx.port(DatasetStore),
            reference=self.reference,
            split=self.split,
            heldout_reference=self.heldout_reference,
            heldout_split=self.heldout_split,
            holdout=self.holdout,
            limit=self.limit,
            seed=self.seed,
        )
        ctx.write(self.rows, train)
        ctx.write(self.heldout, heldout)
        ctx.record_result("rows", {"train": len(train), "heldout": len(heldout), "source": train.name})


def load_rows(
    store: DatasetStore,
    *,
    reference: str,
    split: str,
    heldout_reference: str = "",
    heldout_split: str = "",
    holdout: int,
    limit: int | None,
    seed: int,
) -> tuple[RowSet, RowSet]:
    """(training rows, held-out rows), disjoint. `limit` bounds the rows read; `holdout` the held-out rows.

    Raises:
        DataError: as `DatasetStore.load`, or if fewer rows are left to train on than one.
    """
    rows = store.load(reference, split=split, limit=limit)
    if heldout_reference or heldout_split:
        heldout = store.load(heldout_reference or reference, split=heldout_split or split)
        return rows, store.take(heldout, holdout) if holdout else heldout
    return split_rows(rows, holdout=holdout, seed=seed)


class InitSession(Stage):
    """Start a LoRA session on the base model, at step 0."""

    ports: ClassVar = (TrainingClient,)
    model: str
    session: Writes[TrainingSession]
    step: Writes[int]
    totals: Writes[Totals]
    lora_rank: int = 32
    lora_alpha: float = 32.0
    seed: int = 0
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = False

    async def execute(self, ctx: StageContext) -> None:
        config = SessionConfig(
            model=self.model,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            seed=self.seed,
            train_attn=self.train_attn,
            train_mlp=self.train_mlp,
            train_unembed=self.train_unembed,
            user_metadata={"run_id": ctx.run.run_id},
        )
        ctx.write(self.session, await ctx.port(TrainingClient).start_session(config))
        ctx.write(self.step, 0)
        ctx.write(self.totals, Totals())

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.session):
            await ctx.port(TrainingClient).close_session(ctx.read(self.session))


class LoadWeights(Stage):
    """Replace the session's adapter by a saved one; the optimizer starts afresh."""

    ports: ClassVar = (TrainingClient,)
    session: Updates[TrainingSession]
    path: str

    async def execute(self, ctx: StageContext) -> None:
        await ctx.port(TrainingClient).load_checkpoint(ctx.read(self.session), self.path, optimizer=False)


class InitTokenizer(Stage):
    """Load the base model's tokenizer. It follows from the model's name alone, so that a continued run has the same."""

    ports: ClassVar = (TokenizerStore,)
    model: str
    tokenizer: Writes[Tokenizer]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.tokenizer, ctx.port(TokenizerStore).load(self.model))


class BuildSupervisedDataset(Stage):
    """Make the lazily rendered data sets, and count the steps.

    Refuses data of which no row would train a token.
    """

    rows: Reads[RowSet]
    heldout_rows: Reads[RowSet]
    tokenizer: Reads[Tokenizer]
    dataset: Writes[SupervisedDataset]
    heldout: Writes[SupervisedDataset]
    total_steps: Writes[int]
    renderer: str = "auto"
    train_on: str = "all_assistant_messages"
    row_format: str = "auto"
    max_length: int = 1024
    batch_size: int = 8
    epochs: int = 1
    max_steps: int | None = None
    seed: int = 0

    def check(self) -> Iterable[Problem]:
        if self.batch_size < 1:
            yield Problem(what="must be at least 1", where="batch_size", given=str(self.batch_size))
        yield from renderer_problems(self.renderer)

    async def execute(self, ctx: StageContext) -> None:
        tokenizer = ctx.read(self.tokenizer)
        dataset = self.over(ctx.read(self.rows), tokenizer)
        require_trainable(dataset)
        total = steps_of(dataset.n_batches, epochs=self.epochs, max_steps=self.max_steps)
        ctx.write(self.dataset, dataset)
        heldout = self.over(ctx.read(self.heldout_rows), tokenizer, row_format=dataset.row_format)
        ctx.write(self.heldout, heldout)
        ctx.write(self.total_steps, total)

    def over(self, rows: RowSet, tokenizer: Tokenizer, *, row_format: str | None = None) -> SupervisedDataset:
        """The data set over these rows, as this stage is set."""
        return SupervisedDataset(
            rows,
            renderer=get_renderer(self.renderer, tokenizer),
            train_on=self.train_on,
            max_length=self.max_length,
            batch_size=self.batch_size,
            seed=self.seed,
            row_format=row_format or (None if self.row_format == "auto" else self.row_format),
        )


def steps_of(n_batches: int, *, epochs: int, max_steps: int | None) -> int:
    """Number of optimizer steps: all batches of all epochs, or `max_steps` if that is less."""
    total = n_batches * epochs
    return total if max_steps is None else min(total, max_steps)
