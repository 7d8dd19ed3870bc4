"""Which rows make up each batch of an epoch, and what do they become when a batch is rendered?"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import overload

from crucible.errors import ConfigError, DataError, Problem, did_you_mean
from crucible.ports.dataset_store import RowSet
from crucible.train.data.datum import Reduction
from crucible.train.data.dropped import DropCount
from crucible.train.data.formats import FORMATS, TOKENS, detect_format
from crucible.train.data.rendering import RenderedBatch, RenderedRow, RowRenderer
from crucible.train.renderers.renderer import Renderer
from crucible.train.renderers.train_on import TrainOn
from crucible.train.seeding import generator


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """A batch before it is rendered: its epoch, its place in the epoch, and the indices of its rows."""

    epoch: int
    index: int
    rows: tuple[int, ...]


class TrainingData(ABC):
    """What a training loop needs of its data."""

    @abstractmethod
    def epoch(self, epoch: int) -> Iterable[BatchRows]:
        """The batches of epoch `epoch`, counted from 0; the same ones each time, from the first each time."""

    @abstractmethod
    def render(self, batch: BatchRows) -> RenderedBatch:
        """The batch's rows as datums, in their order; rows that cannot be used are counted, never raised."""


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


class SupervisedDataset(TrainingData):
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
        self.batch_size = batch_size
        self.seed = seed
        self.rendering = RowRenderer(
            renderer=renderer,
            train_on=TrainOn(train_on),
            row_format=_detect(rows) if row_format is None else row_format,
            max_length=max_length,
            reduction=reduction,
        )

    @property
    def renderer(self) -> Renderer:
        """What makes tokens of messages."""
        return self.rendering.renderer

    @property
    def row_format(self) -> str:
        """One of `FORMATS`."""
        return self.rendering.row_format

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
        return self.rendering.row(self.rows[index], self.rows.origin(index), drops)

    def render(self, batch: BatchRows) -> RenderedBatch:
        """See `TrainingData`."""
        return self.rendering.batch((index, self.rows[index], self.rows.origin(index)) for index in batch.rows)


def _check_options(*, max_length: int | None, batch_size: int, row_format: str | None) -> None:
    problems: list[Problem] = []
    if batch_size < 1:
        problems.append(Problem(what="a batch has 1 or more rows", where="batch_size", given=str(batch_size)))
    if max_length is not None and max_length < 2:
        problems.append(
            Problem(what="a row needs 2 or more tokens to train one", where="max_length", given=str(max_length))
        )
    if row_format is not None and row_format not in (*FORMATS, TOKENS):
        hint = did_you_mean(row_format, (*FORMATS, TOKENS))
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
