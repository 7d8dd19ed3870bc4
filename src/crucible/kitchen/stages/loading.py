"""How does a run get its rows, its session, its tokenizer and its data set?"""

import asyncio
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar

from crucible.errors import DataError, Problem
from crucible.framework import Reads, Stage, StageContext, Updates, Writes
from crucible.kitchen.slots import Totals
from crucible.ports import DatasetStore, Tokenizer, TokenizerStore, TrainingClient
from crucible.ports.dataset_store import RowSet, RowStream
from crucible.ports.training_client import SessionConfig, TrainingSession
from crucible.train.data import StreamedDataset, SupervisedDataset, TrainingData, require_trainable, split_rows
from crucible.train.renderers import get_renderer, renderer_problems
from crucible.train.seeding import derive_seed


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
        train, heldout = self.read(ctx.port(DatasetStore))
        ctx.write(self.rows, train)
        ctx.write(self.heldout, heldout)
        ctx.record_result("rows", {"train": len(train), "heldout": len(heldout), "source": train.name})

    def read(self, store: DatasetStore) -> tuple[RowSet, RowSet]:
        """(training rows, held-out rows), disjoint. `limit` bounds the rows read; `holdout` the held-out rows.

        Raises:
            DataError: as `DatasetStore.load`, or if fewer rows are left to train on than one.
        """
        rows = store.load(self.reference, split=self.split, limit=self.limit)
        if self.heldout_reference or self.heldout_split:
            heldout = store.load(self.heldout_reference or self.reference, split=self.heldout_split or self.split)
            return rows, store.take(heldout, self.holdout) if self.holdout else heldout
        return split_rows(rows, holdout=self.holdout, seed=self.seed)


class OpenStream(Stage):
    """Open the training rows, to be read while they are trained on, and read the held-out rows.

    Held-out rows are the first `holdout` rows of `heldout_reference` or `heldout_split` when one is given, else the
    first `holdout` rows of the stream, which are then left out of training.
    """

    ports: ClassVar = (DatasetStore,)
    reference: str
    rows: Writes[RowStream]
    heldout: Writes[RowSet]
    split: str = "train"
    heldout_reference: str = ""
    heldout_split: str = ""
    holdout: int = 0
    limit: int | None = None

    async def execute(self, ctx: StageContext) -> None:
        train, heldout = self.read(ctx.port(DatasetStore))
        ctx.write(self.rows, train)
        ctx.write(self.heldout, heldout)
        ctx.record_result("rows", {"heldout": len(heldout), "source": train.name, "streaming": True})

    def read(self, store: DatasetStore) -> tuple[RowStream, RowSet]:
        """(training rows, held-out rows), disjoint. `limit` bounds the rows read.

        Raises:
            DataError: as `DatasetStore.stream`.
        """
        apart = bool(self.heldout_reference or self.heldout_split)
        skip = 0 if apart else self.holdout
        rows = RowStream(store, self.reference, split=self.split, skip=skip, limit=self.limit)
        held = RowStream(
            store,
            self.heldout_reference or self.reference,
            split=self.heldout_split or self.split,
            limit=None if apart else self.limit,
        )
        return rows, held.head(self.holdout)


class InitSession(Stage):
    """Start a LoRA session on the base model, at step 0.

    seed: the run's, from which the adapter's is derived; nothing else is drawn from that one.
    """

    ports: ClassVar = (TrainingClient,)
    model: str
    session: Writes[TrainingSession]
    step: Writes[int]
    tokens: Writes[int]
    totals: Writes[Totals]
    lora_rank: int = 32
    lora_alpha: float = 32.0
    seed: int = 0
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = False

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.session, await started(ctx.port(TrainingClient), self.config(run_id=ctx.run.run_id)))
        ctx.write(self.step, 0)
        ctx.write(self.tokens, 0)
        ctx.write(self.totals, Totals())

    def config(self, **user_metadata: str) -> SessionConfig:
        """What the session is made of."""
        return SessionConfig(
            model=self.model,
            lora_rank=self.lora_rank,
            lora_alpha=self.lora_alpha,
            seed=derive_seed(self.seed, "lora"),
            train_attn=self.train_attn,
            train_mlp=self.train_mlp,
            train_unembed=self.train_unembed,
            user_metadata=user_metadata,
        )

    async def release(self, ctx: StageContext) -> None:
        if ctx.has(self.session):
            await ctx.port(TrainingClient).close_session(ctx.read(self.session))


async def started(client: TrainingClient, config: SessionConfig) -> TrainingSession:
    """A new session. If the wait for it is cancelled, it is closed as soon as it is there."""
    starting = client.start_session(config)
    try:
        return await starting
    except asyncio.CancelledError:

        def close() -> None:
            with suppress(Exception):
                client.close_session(starting.result())

        threading.Thread(target=close, name="close-abandoned-session", daemon=True).start()
        raise


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


class _BuildDataset(Stage):
    """What both kinds of data sets are made from."""

    heldout_rows: Reads[RowSet]
    tokenizer: Reads[Tokenizer]
    dataset: Writes[TrainingData]
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

    def steps(self, rows: int) -> int:
        """Optimizer steps over so many rows."""
        return steps_of(-(-rows // self.batch_size), epochs=self.epochs, max_steps=self.max_steps)


class BuildSupervisedDataset(_BuildDataset):
    """Make the lazily rendered data sets, and count the steps.

    Refuses data of which no row would train a token.
    """

    rows: Reads[RowSet]

    async def execute(self, ctx: StageContext) -> None:
        tokenizer = ctx.read(self.tokenizer)
        dataset = self.over(ctx.read(self.rows), tokenizer)
        require_trainable(dataset)
        ctx.write(self.dataset, dataset)
        ctx.write(self.heldout, self.over(ctx.read(self.heldout_rows), tokenizer, row_format=dataset.row_format))
        ctx.write(self.total_steps, self.steps(len(dataset.rows)))


class BuildStreamedDataset(_BuildDataset):
    """Make the data sets of a stream, and count the steps: `max_steps`, or what the store says of its length.

    Refuses data of whose first rows none would train a token.

    shuffle_buffer: rows that are permuted together.
    """

    rows: Reads[RowStream]
    shuffle_buffer: int = 1000

    def check(self) -> Iterable[Problem]:
        yield from super().check()
        if self.shuffle_buffer < 1:
            yield Problem(what="must be at least 1", where="shuffle_buffer", given=str(self.shuffle_buffer))

    async def execute(self, ctx: StageContext) -> None:
        tokenizer, rows = ctx.read(self.tokenizer), ctx.read(self.rows)
        head = self.over(rows.head(LOOKED_AT), tokenizer)
        require_trainable(head)
        ctx.write(self.dataset, StreamedDataset(rows, like=head, shuffle_buffer=self.shuffle_buffer))
        ctx.write(self.heldout, self.over(ctx.read(self.heldout_rows), tokenizer, row_format=head.row_format))
        ctx.write(self.total_steps, self.max_steps or self.steps(counted(rows)))


LOOKED_AT = 200
"""First rows of a stream that are looked at before it is trained on."""


def counted(rows: RowStream) -> int:
    """How many rows a stream has.

    Raises:
        DataError: if its store cannot say.
    """
    count = rows.count()
    if count is None:
        fix = "Give max_steps, or streaming=false"
        raise DataError.of(
            "the length of this stream is not known, so neither is its last step", where=rows.name, fix=fix
        )
    return count


def steps_of(n_batches: int, *, epochs: int, max_steps: int | None) -> int:
    """Number of optimizer steps: all batches of all epochs, or `max_steps` if that is less."""
    total = n_batches * epochs
    return total if max_steps is None else min(total, max_steps)
