"""Does the engine's thread run calls in order and in units, fail them alone, and end?"""

import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager

import pytest

from crucible.engine.aside import Aside, beside
from crucible.engine.worker import CallersError, Steps, Worker, awaited


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


class Clock:
    """Goes only when it is set."""

    def __init__(self) -> None:
        self.now, self.looks = 0.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


def in_steps(seen: list[str], name: str, count: int, *, clock: Clock | None = None, cost: float = 1.0) -> Steps[str]:
    for _ in range(count):
        seen.append(name)
        if clock is not None:
            clock.now += cost
        yield
    return name


def held(worker: Worker) -> Future[None]:
    """Keep the worker from beginning until the future is done."""
    release: Future[None] = Future()
    worker.submit(release.result, tenant="hold")
    return release


def test_calls_in_steps_take_turns_and_have_their_values() -> None:
    worker, seen = Worker("test", guard=translating, clock=Clock()), []
    release = held(worker)
    futures = [worker.submit(lambda n=n: in_steps(seen, n, 3), tenant=n, lanes=(n,)) for n in "abc"]
    release.set_result(None)
    assert [future.result() for future in futures] == ["a", "b", "c"]
    assert sorted(seen[:3]) == sorted(seen[3:6]) == ["a", "b", "c"]
    worker.close()


def test_tenants_get_even_time_and_one_that_works_for_several_gets_theirs() -> None:
    clock, seen = Clock(), []
    worker = Worker("test", guard=translating, clock=clock)
    release = held(worker)
    for name, cost, share in (("long", 4.0, 1), ("short", 1.0, 1), ("double", 1.0, 2)):
        worker.submit(
            lambda name=name, cost=cost: in_steps(seen, name, 1000, clock=clock, cost=cost),
            tenant=name,
            lanes=(name,),
            share=lambda share=share: share,
        )
    worker.submit(lambda: in_steps(seen, "end", 100, clock=clock), tenant="end", lanes=("end",))
    release.set_result(None)
    while "end" not in seen or seen.count("end") < 100:
        time.sleep(0.001)
    worker.close()
    counts = Counter(seen[: [i for i, name in enumerate(seen) if name == "end"][99]])
    assert abs(4 * counts["long"] - 100) <= 8 and abs(counts["short"] - 100) <= 8 and abs(counts["double"] - 200) <= 16


def test_who_waits_for_something_else_lets_others_run() -> None:
    worker, needed, seen = Worker("test", guard=translating), Future(), []

    def waits() -> Steps[int]:
        value = yield from awaited(needed)
        seen.append("waited")
        return value

    waiting = worker.submit(waits, lanes=("a",))
    behind = worker.submit(lambda: seen.append("behind"), lanes=("a",))
    worker.submit(lambda: seen.append("beside"), lanes=("b",)).result()
    needed.set_result(3)
    assert (waiting.result(), behind.result()) == (3, None)
    assert seen == ["beside", "waited", "behind"]
    worker.close()


def test_what_failed_elsewhere_fails_who_needed_it_through_the_guard() -> None:
    worker = Worker("test", guard=translating)

    def fails() -> None:
        raise RuntimeError("elsewhere")

    with pytest.raises(ValueError, match="translated"):
        worker.submit(lambda: awaited(beside(fails, name="elsewhere"))).result()
    with pytest.raises(ValueError, match="translated"):
        worker.submit(lambda: beside(fails, name="elsewhere")).result()
    assert worker.submit(int).result() == 0
    worker.close()


def test_a_step_that_fails_ends_its_call_alone_and_frees_its_lane() -> None:
    worker = Worker("test", guard=translating)

    def fails() -> Steps[None]:
        yield
        raise RuntimeError("foreign")

    bad, behind = worker.submit(fails, lanes=("a",)), worker.submit(int, lanes=("a",))
    with pytest.raises(ValueError, match="translated"):
        bad.result()
    assert behind.result() == 0
    worker.close()


def test_an_exit_raised_in_a_call_does_not_end_the_thread() -> None:
    worker = Worker("test", guard=translating)

    def leaves() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        worker.submit(leaves).result()
    assert worker.submit(int).result() == 0
    worker.close()


def test_a_claim_is_held_until_the_calls_future_is_done_and_a_lane_until_it_returns() -> None:
    worker, written, seen = Worker("test", guard=translating), Future(), []
    saving = worker.submit(lambda: written, lanes=("session",), claims=("path",))
    worker.submit(lambda: seen.append("lane"), lanes=("session",)).result()
    deleting = worker.submit(lambda: seen.append("claim"), lanes=(), claims=("path",))
    worker.submit(int, lanes=()).result()
    assert seen == ["lane"]
    written.set_result("saved")
    deleting.result()
    assert (saving.result(), seen) == ("saved", ["lane", "claim"])
    worker.close()


def test_closing_ends_a_call_between_two_steps_and_one_that_waits_elsewhere() -> None:
    worker, ended = Worker("test", guard=translating), []

    def endless() -> Steps[None]:
        try:
            while True:
                yield
        finally:
            ended.append("endless")

    futures = [
        worker.submit(endless, lanes=("a",)),
        worker.submit(lambda: awaited(Future()), lanes=("b",)),
        worker.submit(int, lanes=("a",)),
    ]
    worker.submit(int, lanes=("c",)).result()
    worker.close()
    for future in futures:
        with pytest.raises(ValueError, match="translated"):
            future.result()
    assert ended == ["endless"]


def test_an_idle_worker_does_nothing() -> None:
    clock = Clock()
    worker = Worker("test", guard=translating, clock=clock)
    worker.submit(int).result()
    while clock.looks < 2:  # the unit's end
        time.sleep(0.001)
    looked = clock.looks
    time.sleep(0.05)
    assert clock.looks == looked
    worker.close()


def test_a_call_that_is_done_is_not_kept() -> None:
    worker = Worker("test", guard=translating)

    class Held:
        pass

    def call(what: Held) -> Steps[None]:
        yield
        del what

    first = Held()
    gone = weakref.ref(first)
    worker.submit(lambda what=first: call(what)).result()
    del first
    worker.submit(int).result()
    gc.collect()
    assert gone() is None
    worker.close()


def test_what_runs_aside_is_waited_for() -> None:
    aside, release = Aside(), threading.Event()
    running = aside.run(lambda: release.wait(30), name="aside")
    closing = threading.Thread(target=aside.close)
    closing.start()
    assert closing.is_alive()
    release.set()
    closing.join(30)
    assert running.result() and not closing.is_alive()


def test_cancelling_what_waits_for_a_call_takes_nothing_back() -> None:
    worker = Worker("test", guard=translating)
    release = held(worker)
    waiting = worker.submit(int)
    assert not waiting._source.cancel()
    release.set_result(None)
    assert waiting.result() == 0
    assert worker.submit(int).result() == 0
    worker.close()
