"""The metrics store's contract, over the stores that are not in `test_contracts.py`."""

from collections.abc import Sequence

import pytest

from crucible.adapters.metrics import (
    JsonlMetricsStore,
    Mirrored,
    Patience,
    SqliteMetricsStore,
    Tracker,
    WandbMetricsStore,
)
from crucible.ports.metrics_store import MetricsRow
from crucible.testing import contracts


class TestSqliteMetrics(contracts.MetricsStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteMetricsStore(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: SqliteMetricsStore(tmp_path)


class TestSqliteMetricsOfOneRun(TestSqliteMetrics):
    """In the run's own folder, which has the run's name."""

    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteMetricsStore(tmp_path / "run")
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: SqliteMetricsStore(tmp_path / "run")


class Down(Tracker):
    """A service that never answers with anything but an error."""

    def send(self, first: int, rows: Sequence[MetricsRow]) -> None:
        raise ConnectionError(f"down for the {len(rows)} rows from {first}")


class TestMirroredMetricsWhileTheTrackerIsDown(contracts.MetricsStoreContract):
    @pytest.fixture
    def opened(self, tmp_path):
        patience = Patience(gather=0.01, at_close=0.05)
        return lambda: Mirrored(JsonlMetricsStore(tmp_path), lambda _: Down(), name="down", patience=patience)

    @pytest.fixture
    def store(self, opened):
        store = opened()
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, opened):
        return opened


class TestWandbMetrics(TestMirroredMetricsWhileTheTrackerIsDown):
    """Its process is not even asked: what the port promises is the local store's."""

    @pytest.fixture
    def opened(self, tmp_path):
        patience = Patience(gather=60, at_close=0)
        return lambda: WandbMetricsStore(tmp_path, mode="offline", patience=patience)
