"""Which rows make up each batch when the rows are never all in memory?"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from crucible.ports.dataset_store import Row, RowStream
from crucible.train.data.rendering import RenderedBatch
from crucible.train.data.supervised import BatchRows, SupervisedDataset, TrainingData
from crucible.train.seeding import generator


@dataclass(frozen=True, kw_only=True)
class StreamedBatch(BatchRows):
    """A batch with its rows: `values[i]` came as number `rows[i]` of the stream, from 0."""

    values: tuple[Row, ...]


class StreamedDataset(TrainingData):
    """Rows of a stream, shuffled within windows: each of `shuffle_buffer` rows, in the order of the stream, is
    permuted by (seed, epoch, its number). So any batch's rows follow from its number alone.

    like: a data set over some of the rows, which says how to render them, the batch size and the seed.
    """

    def __init__(self, rows: RowStream, *, like: SupervisedDataset, shuffle_buffer: int) -> None:
        assert shuffle_buffer >= 1, "a window has a row"
        self.rows = rows
        self.batch_size = like.batch_size
        self.rendering = like.rendering
        self._seed, self._window = like.seed, shuffle_buffer

    def epoch(self, epoch: int) -> Iterable[BatchRows]:
        """See `TrainingData`. Rows are read while one iterates; the last batch may have fewer."""
        return _StreamedEpoch(self, epoch)

    def shuffled(self, epoch: int) -> Iterator[tuple[int, Row]]:
        """Rows, each with its number in the stream, in the order of that epoch. Holds one window."""
        rows = iter(enumerate(self.rows))
        for number in count():
            window = list(islice(rows, self._window))
            if not window:
                return
            order: Sequence[int] = generator(self._seed, "shuffle", epoch, number).permutation(len(window)).tolist()
            yield from (window[place] for place in order)

    def render(self, batch: BatchRows) -> RenderedBatch:
        """See `TrainingData`."""
        assert isinstance(batch, StreamedBatch), "the batch is of this data set"
        rows = zip(batch.rows, batch.values, strict=True)
        return self.rendering.batch((index, row, self.rows.origin(index)) for index, row in rows)


class _StreamedEpoch(Iterable[BatchRows]):
    """An epoch's batches, read anew by each iteration."""

    def __init__(self, dataset: StreamedDataset, epoch: int) -> None:
        self._dataset, self._epoch = dataset, epoch

    def __iter__(self) -> Iterator[BatchRows]:
        rows = self._dataset.shuffled(self._epoch)
        for index in count():
            batch = list(islice(rows, self._dataset.batch_size))
            if not batch:
                return
            indices, values = zip(*batch, strict=True)
            yield StreamedBatch(epoch=self._epoch, index=index, rows=indices, values=values)
