"""Rows that are never all in memory come once per epoch, in an order that follows from the seed alone."""

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.adapters.datasets import MemoryStore
from crucible.ports.dataset_store import Row, RowStream
from crucible.train.data import StreamedDataset, SupervisedDataset


def asked(number: int) -> Row:
    return {"question": f"what is {number}?", "answer": "no idea" if number % 7 else None}


def stream(count: int, **part) -> RowStream:
    return RowStream(MemoryStore({"mine": {"train": [asked(number) for number in range(count)]}}), "mine", **part)


def dataset(renderers, rows: RowStream, *, window=5, **options) -> StreamedDataset:
    defaults = {"train_on": "all_assistant_messages", "max_length": None, "batch_size": 4, "seed": 0}
    like = SupervisedDataset(rows.head(3), renderer=renderers["chatml"], **(defaults | options))
    return StreamedDataset(rows, like=like, shuffle_buffer=window)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), size=st.integers(1, 9), window=st.integers(1, 50), skip=st.integers(0, 3))
def test_an_epoch_holds_every_row_once_in_batches_of_the_given_size(renderers, n, size, window, skip) -> None:
    data = dataset(renderers, stream(n + skip, skip=skip), batch_size=size, window=window)
    batches = list(data.epoch(2))
    assert [len(batch.rows) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert sorted(row for batch in batches for row in batch.rows) == list(range(n))
    assert all(
        value == asked(skip + row) for batch in batches for row, value in zip(batch.rows, batch.values, strict=True)
    )


def test_a_row_stays_in_its_window_and_a_window_of_one_leaves_the_order(renderers) -> None:
    rows = [row for batch in dataset(renderers, stream(17), window=5).epoch(0) for row in batch.rows]
    assert [sorted(rows[start : start + 5]) for start in range(0, 17, 5)] == [
        list(range(17))[start : start + 5] for start in range(0, 17, 5)
    ]
    assert rows != sorted(rows)
    assert [row for batch in dataset(renderers, stream(9), window=1).epoch(0) for row in batch.rows] == list(range(9))


def test_epochs_seeds_and_windows_are_shuffled_differently_and_repeat_exactly(renderers) -> None:
    def order(seed, epoch, part=slice(0, 20)):
        batches = dataset(renderers, stream(40), seed=seed, window=20).epoch(epoch)
        return tuple(row % 20 for batch in batches for row in batch.rows)[part]

    assert len({order(0, 0), order(0, 1), order(1, 0), order(1, 1), order(0, 0, slice(20, 40))}) == 5
    assert order(1, 1) == order(1, 1)


@pytest.mark.parametrize("done", [0, 3, 7, 10, 11])
def test_after_skipping_batches_the_next_ones_are_those_that_would_have_come(renderers, done) -> None:
    data = dataset(renderers, stream(41))
    every = list(data.epoch(1))
    assert list(islice(iter(data.epoch(1)), done, None)) == every[done:]


def test_no_more_than_a_window_and_a_batch_is_read_ahead(renderers) -> None:
    read: list[int] = []

    class Counting(MemoryStore):
        def stream(self, reference, *, split="train"):
            for number, row in enumerate(super().stream(reference, split=split)):
                read.append(number)
                yield row

    store = Counting({"mine": {"train": [asked(number) for number in range(1000)]}})
    batches = iter(dataset(renderers, RowStream(store, "mine"), window=10).epoch(0))
    read.clear()
    for _ in range(5):
        next(batches)
    assert len(read) == 20


def test_rows_left_out_are_counted_with_their_place_in_the_stream(renderers) -> None:
    data = dataset(renderers, stream(30, skip=8), batch_size=30, window=1)
    seen = data.render(next(iter(data.epoch(0))))
    (dropped,) = seen.dropped.values()
    assert (len(seen.datums), dropped.count, dropped.first_origin) == (19, 3, "mine[train] row 15")


def test_a_stream_knows_its_length_and_its_content(renderers) -> None:
    assert stream(9).count() == 9 and stream(9, skip=2, limit=5).count() == 3 and stream(2, skip=3).count() == 0
    assert stream(9).fingerprint() == stream(9).fingerprint() != stream(8).fingerprint()
