"""Does a tracker get every row once and in order, and can it never stop or slow a run?"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from crucible.adapters.metrics import JsonlMetricsStore, Mirrored, Patience, Tracker
from crucible.ports.metrics_store import MetricsRow

QUICK = Patience(gather=0.01, longest_pause=0.05, slow_after=0.1, at_close=5.0)


class Service(Tracker):
    """A tracker that is up, down or hangs, as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []  # index and step of each row, as delivered
        self.largest = self.failures = 0
        self.up = True
        self.answers = threading.Event()
        self.answers.set()
        self.closed_with: float | None = None

    def send(self, first: int, rows: Sequence[MetricsRow]) -> None:
        self.answers.wait()
        if not self.up:
            self.failures += 1
            raise ConnectionError("503 service unavailable")
        self.largest = max(self.largest, len(rows))
        self.got += [(index, row.step) for index, row in enumerate(rows, start=first)]

    def close(self, *, patience: float) -> None:
        self.closed_with = patience


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.answers.set()


def opened(tmp_path, service, patience=QUICK) -> Mirrored:
    return Mirrored(JsonlMetricsStore(tmp_path), lambda _: service, name="board", patience=patience)


def record(store, steps) -> None:
    for step in steps:
        store.record("run", step, {"loss": 1.0 / (step + 1)})


def until(condition) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_every_row_arrives_once_in_order_and_under_its_index(tmp_path, service, caplog):
    store = opened(tmp_path, service)
    record(store, range(50))
    store.close()
    assert service.got == [(number, number) for number in range(50)]
    assert service.closed_with is not None and service.closed_with > 0 and warnings(caplog) == []


def test_rows_that_wait_together_go_together(tmp_path, service):
    store = opened(tmp_path, service, Patience(gather=0.2))
    record(store, range(50))
    store.close()
    assert service.largest == 50


def test_a_service_that_is_down_is_tried_again_with_growing_pauses_and_reported_once(tmp_path, service, caplog):
    service.up = False
    store = opened(tmp_path, service)
    record(store, range(3))
    until(lambda: service.failures >= 4)
    service.up = True
    record(store, range(3, 6))
    store.close()
    assert service.got == [(number, number) for number in range(6)]
    path = tmp_path / "run" / "metrics.jsonl"
    assert warnings(caplog) == [
        "board: ConnectionError: 503 service unavailable; 3 metric rows wait and are tried again; "
        f"the run goes on, and all rows are in {path}"
    ]


def test_a_service_that_hangs_costs_the_run_no_time_and_is_reported_once(tmp_path, service, caplog):
    service.answers.clear()
    store = opened(tmp_path, service)
    began = time.monotonic()
    record(store, range(500))
    assert time.monotonic() - began < 1
    time.sleep(0.2)
    record(store, range(500, 502))
    (line,) = warnings(caplog)
    assert "no answer for 0.1 seconds; 50" in line
    service.answers.set()
    store.close()
    assert len(service.got) == 502


def test_closing_waits_for_a_hanging_service_a_bounded_time_and_says_what_is_missing_and_where(
    tmp_path, service, caplog
):
    service.answers.clear()
    store = opened(tmp_path, service, Patience(gather=0.01, at_close=0.2))
    record(store, range(7))
    began = time.monotonic()
    store.close()
    store.close()
    assert time.monotonic() - began < 2 and service.closed_with == 0
    path = tmp_path / "run" / "metrics.jsonl"
    assert warnings(caplog) == [f"board: 7 of 7 metric rows were not delivered; all of them are in {path}"]
    assert len(path.read_text().splitlines()) == 7


def test_memory_is_bounded_and_what_did_not_fit_is_read_again(tmp_path, service):
    service.up = False
    store = opened(tmp_path, service, Patience(rows=10, gather=0.01, longest_pause=0.02))
    record(store, range(95))
    until(lambda: service.failures >= 2)
    service.up = True
    store.close()
    assert service.got == [(number, number) for number in range(95)] and service.largest == 10


def test_a_resumed_run_sends_only_what_is_new(tmp_path, service):
    store = opened(tmp_path, service)
    record(store, range(5))
    store.close()
    again = opened(tmp_path, service)
    again.truncate("run", 3)
    record(again, range(3, 7))
    again.close()
    assert service.got == [(number, number) for number in range(7)]
    assert [row.step for row in again.read("run")] == list(range(7))


def test_a_run_that_is_cut_back_while_it_runs_sends_no_row_twice(tmp_path, service):
    store = opened(tmp_path, service)
    record(store, range(5))
    until(lambda: len(service.got) == 5)
    store.truncate("run", 2)
    record(store, range(2, 8))
    store.close()
    assert service.got == [(number, number) for number in range(8)]


def test_rows_that_wait_are_cut_back_with_the_run(tmp_path, service):
    service.up = False
    store = opened(tmp_path, service)
    record(store, range(5))
    store.truncate("run", 2)
    store.record("run", 9, {"loss": 1.0})
    service.up = True
    store.close()
    assert service.got == [(0, 0), (1, 1), (2, 9)]


def test_what_a_killed_run_did_not_deliver_goes_with_the_resumed_one(tmp_path, service):
    killed = JsonlMetricsStore(tmp_path)
    record(killed, range(4))
    killed.close()
    store = opened(tmp_path, service)
    record(store, [4])
    store.close()
    assert service.got == [(number, number) for number in range(5)]


def test_a_damaged_count_sends_all_rows_again(tmp_path, service):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.board.sent").write_text("no number")
    store = opened(tmp_path, service)
    record(store, range(2))
    store.close()
    assert service.got == [(0, 0), (1, 1)]
    assert int((tmp_path / "run" / "metrics.board.sent").read_text()) == 2


def test_a_service_that_cannot_finish_is_reported(tmp_path, caplog):
    class Unfinished(Service):
        def close(self, *, patience: float) -> None:
            raise TimeoutError(f"the upload is not over in {patience:.0f} seconds")

    store = opened(tmp_path, Unfinished())
    record(store, range(1))
    store.close()
    assert warnings(caplog) == [
        f"board: the upload is not over in 5 seconds; all metric rows are in {tmp_path / 'run' / 'metrics.jsonl'}"
    ]


def test_threads_may_record_at_once_and_the_tracker_sees_the_order_of_the_file(tmp_path, service):
    store = opened(tmp_path, service)
    threads = [threading.Thread(target=record, args=(store, range(at, at + 50))) for at in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps = [row.step for row in store.read("run")]
    store.close()
    assert len(steps) == 150 and service.got == list(enumerate(steps))
