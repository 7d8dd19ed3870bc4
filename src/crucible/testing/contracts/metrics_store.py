"""Does a metrics adapter keep the whole contract of its port?"""

import math
from collections.abc import Callable

import pytest

from crucible.errors import PortError
from crucible.ports.metrics_store import MetricsRow, MetricsStore
from crucible.testing.contracts.suite import NotExercised, Suite, needed


class MetricsStoreContract(Suite):
    """The contract of `crucible.ports.MetricsStore`.

    Fixtures that the subclass gives:
        store: the adapter, empty, fresh for every test.
    and may give, to exercise more:
        reopen: makes another adapter on the same place, as a new process would.
    """

    @pytest.fixture
    def store(self) -> MetricsStore:
        raise needed("store")

    @pytest.fixture
    def reopen(self) -> Callable[[], MetricsStore] | None:
        """Opens the same place again; without it, surviving the process is not exercised."""

    def test_rows_come_back_in_the_order_recorded(self, store: MetricsStore) -> None:
        rows = [
            (1, {"loss": 2.5, "lr": 1e-4}),
            (3, {"reward/mean": -0.1}),
            (2, {"loss": 0.1 + 0.2}),
            (2, {"count": 7.0}),
        ]
        for step, values in rows:
            store.record("run", step, values)
        assert store.read("run") == [MetricsRow(step=step, values=values) for step, values in rows]

    def test_nan_and_infinity_are_kept(self, store: MetricsStore) -> None:
        store.record("run", 0, {"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324})
        values = store.read("run")[0].values
        assert math.isnan(values["nan"])
        assert (values["up"], values["down"], values["tiny"]) == (math.inf, -math.inf, 5e-324)

    def test_runs_are_apart_and_an_unknown_one_is_empty(self, store: MetricsStore) -> None:
        store.record("one", 0, {"a": 1.0})
        store.record("two", 0, {"a": 2.0})
        assert [row.values["a"] for row in store.read("one")] == [1.0]
        assert store.read("three") == []

    def test_a_negative_step_an_empty_row_or_a_second_step_is_refused(self, store: MetricsStore) -> None:
        with pytest.raises(ValueError):
            store.record("run", -1, {"a": 1.0})
        with pytest.raises(ValueError):
            store.record("run", 1, {})
        with pytest.raises(ValueError):
            store.record("run", 1, {"step": 1.0})
        assert store.read("run") == []

    def test_a_row_is_what_was_recorded_whatever_happens_to_the_mapping(self, store: MetricsStore) -> None:
        values = {"a": 1.0}
        store.record("run", 0, values)
        values["a"] = 2.0
        assert store.read("run") == [MetricsRow(step=0, values={"a": 1.0})]

    def test_a_recorded_row_survives_the_process(
        self, store: MetricsStore, reopen: Callable[[], MetricsStore] | None, not_exercised: NotExercised
    ) -> None:
        if reopen is None:
            not_exercised("surviving the process: the suite cannot open this store again")
            return
        store.record("run", 1, {"a": 1.0})
        other = reopen()  # neither flushed nor closed before: the process may have been killed
        assert other.read("run") == [MetricsRow(step=1, values={"a": 1.0})]
        other.record("run", 2, {"a": 2.0})
        assert [row.step for row in other.read("run")] == [1, 2]
        other.close()

    def test_a_range_of_steps_is_read_with_both_its_ends(self, store: MetricsStore) -> None:
        for step in (1, 3, 2, 2, 5):
            store.record("run", step, {"a": 1.0})
        assert [row.step for row in store.read("run", first=2)] == [3, 2, 2, 5]
        assert [row.step for row in store.read("run", first=2, last=3)] == [3, 2, 2]
        assert [row.step for row in store.read("run", last=1)] == [1]
        assert store.read("run", first=3, last=2) == store.read("run", first=6) == []

    def test_truncating_keeps_the_first_rows_and_recording_goes_on_after_them(self, store: MetricsStore) -> None:
        for number in range(4):
            store.record("run", number, {"a": float(number)})
        store.record("other", 7, {"a": 1.0})
        store.truncate("run", 2)
        store.record("run", 9, {"a": 9.0})
        assert [row.step for row in store.read("run")] == [0, 1, 9]
        store.truncate("run", 3)
        store.truncate("run", 0)
        assert store.read("run") == []
        assert [row.step for row in store.read("other")] == [7]

    def test_a_run_that_recorded_nothing_may_be_truncated_to_nothing(self, store: MetricsStore) -> None:
        store.truncate("run", 0)
        assert store.read("run") == []

    def test_truncating_to_more_rows_than_there_are_is_refused_and_changes_nothing(self, store: MetricsStore) -> None:
        store.record("run", 1, {"a": 1.0})
        with pytest.raises(PortError):
            store.truncate("run", 2)
        with pytest.raises(ValueError):
            store.truncate("run", -1)
        with pytest.raises(PortError):
            store.truncate("never recorded", 1)
        assert store.read("run") == [MetricsRow(step=1, values={"a": 1.0})]

    def test_a_truncation_survives_the_process(
        self, store: MetricsStore, reopen: Callable[[], MetricsStore] | None, not_exercised: NotExercised
    ) -> None:
        if reopen is None:
            not_exercised("a truncation surviving the process: the suite cannot open this store again")
            return
        for number in range(3):
            store.record("run", number, {"a": 1.0})
        killed = reopen()
        killed.truncate("run", 1)
        other = reopen()
        assert [row.step for row in other.read("run")] == [0]
        other.record("run", 5, {"a": 1.0})
        assert [row.step for row in other.read("run")] == [0, 5]
        other.close()
        killed.close()

    def test_flush_and_close_may_be_repeated(self, store: MetricsStore) -> None:
        store.record("run", 1, {"a": 1.0})
        for _ in range(2):
            store.flush("run")
            store.flush("never recorded")
        store.close()
        store.close()
