"""Does a dataset adapter keep the whole contract of its port?"""

import itertools

import pytest

from crucible.errors import DataError
from crucible.ports.dataset_store import DatasetStore, RowStream
from crucible.testing.contracts.suite import NotExercised, Suite, needed


class DatasetStoreContract(Suite):
    """The contract of `crucible.ports.DatasetStore`.

    Fixtures that the subclass gives:
        store: the adapter.
        reference: a data set it has, with at least four different rows in the split `split`.
    and may give:
        split: the split to read (default `train`).
        missing: a reference to no data set; None where the store has every one.
    """

    @pytest.fixture
    def store(self) -> DatasetStore:
        raise needed("store")

    @pytest.fixture
    def reference(self) -> str:
        raise needed("reference")

    @pytest.fixture
    def split(self) -> str:
        """The split to read."""
        return "train"

    @pytest.fixture
    def missing(self) -> str | None:
        """A reference to no data set; without one, refusing it is not exercised."""

    def test_it_accepts_what_it_has(self, store: DatasetStore, reference: str) -> None:
        assert store.accepts(reference)

    def test_info_agrees_with_the_rows(self, store: DatasetStore, reference: str, split: str) -> None:
        info = store.info(reference)
        rows = store.load(reference, split=split)
        assert info.name
        assert info.splits[split] in (None, len(rows))
        assert {column for row in rows for column in row} <= set(info.columns)

    def test_the_same_reference_gives_the_same_rows(self, store: DatasetStore, reference: str, split: str) -> None:
        first, second = store.load(reference, split=split), store.load(reference, split=split)
        assert len(first) >= 4
        assert store.to_list(first) == store.to_list(second)

    def test_a_limit_gives_the_first_rows(self, store: DatasetStore, reference: str, split: str) -> None:
        every = store.to_list(store.load(reference, split=split))
        assert store.to_list(store.load(reference, split=split, limit=2)) == every[:2]
        assert store.to_list(store.load(reference, split=split, limit=len(every) + 9)) == every

    def test_a_stream_gives_the_rows_of_a_load(self, store: DatasetStore, reference: str, split: str) -> None:
        every = store.to_list(store.load(reference, split=split))
        assert [dict(row) for row in store.stream(reference, split=split)] == every
        assert [dict(row) for row in itertools.islice(store.stream(reference, split=split), 2)] == every[:2]

    def test_a_stream_of_part_of_the_rows_starts_anew_each_time(
        self, store: DatasetStore, reference: str, split: str
    ) -> None:
        every = store.to_list(store.load(reference, split=split))
        part = RowStream(store, reference, split=split, skip=1, limit=3)
        assert [dict(row) for row in part] == [dict(row) for row in part] == every[1:3]
        assert part.origin(0) != part.origin(1)

    def test_the_rows_are_known_by_the_same_fingerprint_each_time(
        self, store: DatasetStore, reference: str, split: str
    ) -> None:
        rows = store.load(reference, split=split)
        assert rows.fingerprint() == store.load(reference, split=split).fingerprint()
        assert rows.fingerprint() != store.take(rows, 3).fingerprint()
        assert store.fingerprint(reference, split=split) == store.fingerprint(reference, split=split)

    def test_every_row_says_where_it_came_from(self, store: DatasetStore, reference: str, split: str) -> None:
        rows = store.load(reference, split=split)
        origins = [rows.origin(index) for index in range(len(rows))]
        assert all(origins)
        assert len(set(origins)) == len(origins)

    def test_a_missing_split_is_refused_and_the_others_named(
        self, store: DatasetStore, reference: str, split: str
    ) -> None:
        with pytest.raises(DataError, match=split):
            store.load(reference, split="no_such_split")
        with pytest.raises(DataError, match=split):
            next(iter(store.stream(reference, split="no_such_split")))
        with pytest.raises(DataError, match=split):
            store.fingerprint(reference, split="no_such_split")

    def test_a_missing_data_set_is_refused(
        self, store: DatasetStore, missing: str | None, not_exercised: NotExercised
    ) -> None:
        if missing is None:
            not_exercised("a missing data set: this store has every one")
            return
        with pytest.raises(DataError):
            store.info(missing)
        with pytest.raises(DataError):
            store.load(missing)
        with pytest.raises(DataError):
            next(iter(store.stream(missing)))

    def test_a_shuffle_is_a_permutation_drawn_from_the_seed(
        self, store: DatasetStore, reference: str, split: str
    ) -> None:
        rows = store.load(reference, split=split)
        places = {rows.origin(index): index for index in range(len(rows))}
        orders: list[list[int]] = []
        for seed in (1, 1, 2, 3, 4):
            shuffled = store.shuffle(rows, seed=seed)
            order = [places[shuffled.origin(index)] for index in range(len(shuffled))]
            assert sorted(order) == list(range(len(rows)))
            assert [dict(row) for row in shuffled] == [dict(rows[index]) for index in order]
            orders.append(order)
        assert orders[0] == orders[1]
        assert len({tuple(order) for order in orders}) > 1

    def test_take_and_skip_part_the_rows(self, store: DatasetStore, reference: str, split: str) -> None:
        rows = store.load(reference, split=split)
        for count in (0, 1, len(rows), len(rows) + 1):
            parts = store.take(rows, count), store.skip(rows, count)
            assert len(parts[0]) == min(count, len(rows))
            assert [*store.to_list(parts[0]), *store.to_list(parts[1])] == store.to_list(rows)

    def test_select_keeps_the_order_asked_and_the_origins(
        self, store: DatasetStore, reference: str, split: str
    ) -> None:
        rows = store.load(reference, split=split)
        chosen = store.select(rows, [2, 0, 2])
        assert store.to_list(chosen) == [dict(rows[index]) for index in (2, 0, 2)]
        assert [chosen.origin(index) for index in range(3)] == [rows.origin(index) for index in (2, 0, 2)]
        with pytest.raises(IndexError):
            store.select(rows, [len(rows)])

    def test_to_list_gives_copies(self, store: DatasetStore, reference: str, split: str) -> None:
        rows = store.load(reference, split=split)
        copies = store.to_list(rows)
        copies[0]["a column of my own"] = 1
        assert "a column of my own" not in rows[0]

    def test_it_may_be_closed_twice(self, store: DatasetStore) -> None:
        store.close()
        store.close()
