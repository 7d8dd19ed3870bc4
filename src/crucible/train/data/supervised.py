"""Which rows make up each batch of an epoch, and what do they become when a batch is rendered?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import overload

from crucible.errors import ConfigError, DataError, Problem, RendererError, did_you_mean
from crucible.ports.dataset_store import RowSet
from crucible.ports.datum import Datum
from crucible.train.data.datum import BuiltDatum, Reduction, datum_from_example
from crucible.train.data.dropped import DropCount, Dropped
from crucible.train.data.formats import FORMATS, RowError, detect_format, row_to_messages
from crucible.train.renderers.renderer import RenderedExample, Renderer
from crucible.train.renderers.train_on import TrainOn
from crucible.train.seeding import generator


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """A batch before it is rendered: its epoch, its place in the epoch, and the indices of its rows."""

    epoch: int
    index: int
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RenderedBatch:
    """A batch as datums, and an account of every row that is not among them.

    datums: one per usable row; rows: the index of each datum's row.
    dropped: reason -> rows left out. truncated: datums that `max_length` cut; cut_trained_tokens: trained
        tokens lost that way, those of rows dropped for it included.
    tokens: input positions of the datums; trained_tokens: those with a loss weight.
    ends_without_stop: trained turns without an end-of-turn token.
    """

    datums: tuple[Datum, ...]
    rows: tuple[int, ...]
    dropped: Mapping[str, Dropped]
    truncated: int
    cut_trained_tokens: int
    tokens: int
    trained_tokens: int
    ends_without_stop: int


@dataclass(frozen=True, kw_only=True)
class RenderedRow:
    """One row as an example and as a datum (None in `built` if no trained token is left)."""

    example: RenderedExample
    built: BuiltDatum


class _Epoch(Sequence[BatchRows]):
    """An epoch's batches, each made when it is asked for."""

    def __init__(self, epoch: int, order: Sequence[int], batch_size: int) -> None:
        self._epoch, self._order, self._batch_size = epoch, order, batch_size

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    @overload
    def __getitem__(self, index: int) -> BatchRows: ...
    @overload
    def __getitem__(self, index: slice) -> list[BatchRows]: ...
    def __getitem__(self, index: int | slice) -> BatchRows | list[BatchRows]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start = place * self._batch_size
        return BatchRows(epoch=self._epoch, index=place, rows=tuple(self._order[start : start + self._batch_size]))


class SupervisedDataset:
    """Rows, how to render them, and their order in each epoch. Nothing is rendered before `render`.

    max_length: the most tokens kept of a row (None: all). row_format: one of `FORMATS`; None looks at the columns.
    seed: with the epoch, it gives the order of the rows, each of which comes once per epoch.

    Raises:
        DataError: if the form must be told from the columns and there is no row, or none fits them.
        ConfigError: for an unknown row format or train_on, or a batch_size or max_length that cannot be.
    """

    def __init__(
        self,
        rows: RowSet,
        *,
        renderer: Renderer,
        train_on: TrainOn | str,
        max_length: int | None,
        batch_size: int,
        seed: int,
        row_format: str | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        _check_options(max_length=max_length, batch_size=batch_size, row_format=row_format)
        self.rows = rows
        self.renderer = renderer
        self.train_on = TrainOn(train_on)
        self.max_length = max_length
        self.batch_size = batch_size
        self.seed = seed
        self.row_format = _detect(rows) if row_format is None else row_format
        self.reduction: Reduction = reduction

    @property
    def n_batches(self) -> int:
        """Batches per epoch; the last may have fewer rows."""
        return -(-len(self.rows) // self.batch_size)

    def epoch(self, epoch: int) -> Sequence[BatchRows]:
        """The batches of epoch `epoch`, counted from 0: a permutation of the rows drawn from (seed, epoch)."""
        order = generator(self.seed, "shuffle", epoch).permutation(len(self.rows)).tolist()
        return _Epoch(epoch, order, self.batch_size)

    def render_row(self, index: int, drops: DropCount) -> RenderedRow | None:
        """One row; None if it cannot be rendered. That, and a row without a trained token, is counted in `drops`."""
        try:
            messages = row_to_messages(self.rows[index], self.row_format)
            example = self.renderer.build_supervised_example(messages, train_on=self.train_on)
        except (RowError, RendererError) as error:
            drops.add(error, origin=self.rows.origin(index))
            return None
        built = datum_from_example(example, max_length=self.max_length, reduction=self.reduction)
        if built.datum is None:
            drops.add(_untrained(built, self.max_length), origin=self.rows.origin(index))
        return RenderedRow(example=example, built=built)

    def render(self, batch: BatchRows) -> RenderedBatch:
        """The batch's rows as datums, in their order; rows that cannot be used are counted, never raised."""
        drops, kept = DropCount(), list[tuple[int, RenderedRow, Datum]]()
        cut_trained = 0
        for index in batch.rows:
            row = self.render_row(index, drops)
            if row is None:
                continue
            cut_trained += row.built.cut_trained_tokens
            if row.built.datum is not None:
                kept.append((index, row, row.built.datum))
        return RenderedBatch(
            datums=tuple(datum for _, _, datum in kept),
            rows=tuple(index for index, _, _ in kept),
            dropped=drops.by_reason(),
            truncated=sum(row.built.cut_tokens > 0 for _, row, _ in kept),
            cut_trained_tokens=cut_trained,
            tokens=sum(datum.model_input.length for _, _, datum in kept),
            trained_tokens=sum(row.built.trained_tokens for _, row, _ in kept),
            ends_without_stop=sum(row.example.ends_without_stop for _, row, _ in kept),
        )


def _untrained(built: BuiltDatum, max_length: int | None) -> RowError:
    if built.cut_trained_tokens:
        return RowError.of(
            "max_length cuts the row off before its first trained token",
            given=f"{built.tokens} tokens with max_length={max_length}",
            fix="Raise max_length, or leave the row out",
        )
    return RowError.of("the row has no trained token")


def _check_options(*, max_length: int | None, batch_size: int, row_format: str | None) -> None:
    problems: list[Problem] = []
    if batch_size < 1:
        problems.append(Problem(what="a batch has 1 or more rows", where="batch_size", given=str(batch_size)))
    if max_length is not None and max_length < 2:
        problems.append(
            Problem(what="a row needs 2 or more tokens to train one", where="max_length", given=str(max_length))
        )
    if row_format is not None and row_format not in FORMATS:
        hint = did_you_mean(row_format, FORMATS)
        problems.append(Problem(what="there is no such row format", where="row_format", given=row_format, fix=hint))
    if problems:
        raise ConfigError(problems)


def _detect(rows: RowSet) -> str:
    """The form of the first row that has one, so that a broken first row costs only itself."""
    if not len(rows):
        raise DataError.of("the data set has no row", where=rows.name)
    refused: DataError | None = None
    for row in islice(rows, 100):
        try:
            return detect_format(row)
        except DataError as error:
            refused = refused or error
    assert refused is not None
    raise DataError([replace(problem, where=rows.name) for problem in refused.problems]) from refused
