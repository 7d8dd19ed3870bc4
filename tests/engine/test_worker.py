"""Does the engine's thread run jobs in order, fail them alone, and end?"""

import threading
from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest

from crucible.engine.worker import CallersError, Worker


@contextmanager
def translating() -> Generator[None]:
    try:
        yield
    except (RuntimeError, CancelledError) as error:
        raise ValueError("translated") from error


def test_jobs_run_in_order_in_one_other_thread() -> None:
    worker, seen = Worker("test", guard=translating), []
    futures = [worker.submit(lambda n=n: seen.append((n, threading.current_thread().name))) for n in range(20)]
    for future in futures:
        future.result()
    worker.close()
    assert seen == [(n, "test") for n in range(20)]


def test_a_failing_job_fails_its_own_future_through_the_guard() -> None:
    worker = Worker("test", guard=translating)

    def fails() -> None:
        raise RuntimeError("foreign")

    bad, good = worker.submit(fails), worker.submit(int)
    with pytest.raises(ValueError, match="translated"):
        bad.result()
    assert good.result() == 0
    worker.close()


def test_a_callers_own_error_is_not_translated() -> None:
    def fails() -> None:
        raise CallersError(RuntimeError("mine"))

    worker = Worker("test", guard=translating)
    with pytest.raises(RuntimeError, match="mine"):
        worker.submit(fails).result()
    worker.close()


def test_closing_ends_the_thread_after_the_job_it_is_on_and_fails_the_rest() -> None:
    worker, started, release = Worker("test", guard=translating), threading.Event(), threading.Event()
    running = worker.submit(lambda: (started.set(), release.wait(10)))
    waiting = worker.submit(int)
    started.wait(10)
    closing = threading.Thread(target=worker.close)
    closing.start()
    while not worker.closing:
        pass
    release.set()
    closing.join()
    assert running.result() == (None, True)
    for refused in (waiting, worker.submit(int)):
        with pytest.raises(ValueError, match="translated"):
            refused.result()
    worker.close()
    assert "test" not in {thread.name for thread in threading.enumerate()}


def test_a_worker_that_was_never_used_has_no_thread() -> None:
    worker = Worker("test", guard=translating)
    assert "test" not in {thread.name for thread in threading.enumerate()}
    worker.close()
