"""Is shared work stepped while there is any, in turns with the rest, and do its failures reach all they concern?"""

from concurrent.futures import CancelledError, Future
from contextlib import nullcontext

import pytest

from crucible.engine.shared_turns import SharedTurns
from crucible.engine.worker import Steps, Worker


class Clock:
    """Goes only when it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Countdowns:
    """Work whose every request is done after so many steps, which all of them share; each step takes a second."""

    def __init__(self, clock: Clock, seen: list[str]) -> None:
        self._clock, self._seen = clock, seen
        self._left: dict[Future[str], int] = {}

    @property
    def busy(self) -> bool:
        return bool(self._left)

    def ask(self, steps: int) -> Future[str]:
        request: Future[str] = Future()
        self._left[request] = steps
        return request

    def step(self) -> None:
        self._seen.append("shared")
        self._clock.now += 1
        for request in list(self._left):
            self._left[request] -= 1
            if self._left[request] < 0:
                raise RuntimeError("broken")
            if not self._left[request]:
                del self._left[request]
                request.set_result("done")

    def fail(self, error: Exception) -> None:
        requests, self._left = self._left, {}
        for request in requests:
            request.set_exception(error)


def seconds(clock: Clock, seen: list[str], name: str, count: int) -> Steps[None]:
    for _ in range(count):
        seen.append(name)
        clock.now += 1
        yield


@pytest.mark.parametrize(("sessions", "share"), [(1, 20), (3, 60)])
def test_each_session_in_shared_work_has_the_time_of_one_alone(sessions: int, share: int) -> None:
    clock, seen, release = Clock(), [], Future()
    worker, work = Worker("test", guard=nullcontext, clock=clock), Countdowns(clock, seen)
    turns = SharedTurns(worker, work, tenant="shared")
    worker.submit(release.result, tenant="hold")
    for number in range(sessions):
        worker.submit(lambda number=number: turns.take(f"session {number}", work.ask(1000)), lanes=())
    alone = worker.submit(lambda: seconds(clock, seen, "alone", 20), tenant="alone", lanes=("alone",))
    release.set_result(None)
    alone.result()
    worker.close()
    last = [place for place, name in enumerate(seen) if name == "alone"][-1]
    assert abs(seen[:last].count("shared") - share) <= 2 * sessions


def test_work_that_ended_begins_again_with_the_next_request() -> None:
    clock, seen = Clock(), []
    worker, work = Worker("test", guard=nullcontext, clock=clock), Countdowns(clock, seen)
    turns = SharedTurns(worker, work, tenant="shared")
    for _ in range(3):
        assert worker.submit(lambda: turns.take("one", work.ask(4))).result() == "done"
    assert seen == ["shared"] * 12
    worker.close()


def test_a_step_that_fails_fails_all_that_is_under_way_and_nothing_later() -> None:
    clock, release = Clock(), Future()
    worker, work = Worker("test", guard=nullcontext, clock=clock), Countdowns(clock, [])
    turns = SharedTurns(worker, work, tenant="shared")
    worker.submit(release.result, tenant="hold")
    futures = [
        worker.submit(lambda steps=steps: turns.take(str(steps), work.ask(steps)), tenant="requests")
        for steps in (5, 0)
    ]
    release.set_result(None)
    for future in futures:
        with pytest.raises(RuntimeError, match="broken"):
            future.result()
    assert worker.submit(lambda: turns.take("one", work.ask(1))).result() == "done"
    worker.close()


def test_closing_fails_what_is_not_done() -> None:
    clock = Clock()
    work = Countdowns(clock, [])
    turns: list[SharedTurns] = []
    worker = Worker("test", guard=nullcontext, clock=clock, at_end=lambda: turns[0].end())
    turns.append(SharedTurns(worker, work, tenant="shared"))
    endless = worker.submit(lambda: turns[0].take("one", work.ask(10**9)))
    worker.submit(int, lanes=("b",)).result()
    worker.close()
    with pytest.raises(CancelledError):
        endless.result()
