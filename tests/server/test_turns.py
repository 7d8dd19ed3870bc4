"""Do the requests of one model begin in the order of their numbers, whatever comes?"""

import asyncio
import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.server.refusals import Refusal
from crucible.server.turns import MOST_AHEAD, Turn, Turns


class Log:
    """What began and ended, in order, and what was given up."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.given_up: dict[int, str] = {}

    def turn(self, number: int, *, alone: bool = False, sleep: Callable[[], float] = lambda: 0.0) -> Turn:
        async def work() -> None:
            await asyncio.sleep(sleep())
            self.events.append(f"end {number}")

        def begin() -> object:
            self.events.append(f"begin {number}")
            return work()

        return Turn(begin=begin, alone=alone, give_up=lambda reason: self.given_up.update({number: str(reason)}))

    @property
    def begun(self) -> list[int]:
        return [int(event.split()[1]) for event in self.events if event.startswith("begin")]


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 8)))
@settings(max_examples=50, deadline=None)
def test_any_order_of_arrival_is_one_order_of_turns(arrival: list[int], alone: set[int]) -> None:
    async def main() -> Log:
        log, turns = Log(), Turns(patience=60)
        for number in arrival:
            turns.offer(number, log.turn(number, alone=number in alone, sleep=lambda: random.random() / 1000))
        while turns.pending:
            await asyncio.sleep(0.001)
        return log

    log = asyncio.run(main())
    assert log.begun == list(range(1, 9))
    for number in alone:  # nothing of another begins or ends between its begin and its end, and all before have ended
        place = log.events.index(f"begin {number}")
        assert log.events[place + 1] == f"end {number}"
        assert all(f"end {before}" in log.events[:place] for before in range(1, number))


async def test_a_request_that_never_comes_fails_those_behind_it_and_the_line_goes_on() -> None:
    log, turns = Log(), Turns(patience=0.02)
    for number in (1, 3, 5):
        turns.offer(number, log.turn(number))
    await asyncio.sleep(0.1)
    assert log.begun == [1]
    assert set(log.given_up) == {3, 5}
    assert "request 2 of this model did not arrive" in log.given_up[5]
    turns.offer(2, log.turn(2))
    turns.offer(6, log.turn(6))
    await turns.settled()
    assert log.begun == [1, 6]
    assert "too late" in log.given_up[2]


async def test_a_number_far_ahead_is_not_waited_for() -> None:
    log, turns = Log(), Turns(patience=60)
    turns.offer(MOST_AHEAD + 2, log.turn(MOST_AHEAD + 2))
    assert "too far ahead" in log.given_up[MOST_AHEAD + 2]
    assert turns.pending == 0


async def test_a_closed_line_gives_up_what_waits_and_what_comes() -> None:
    log, turns = Log(), Turns(patience=60)
    turns.offer(1, log.turn(1, alone=True))
    turns.offer(2, log.turn(2))
    turns.close(Refusal(410, "over"))
    turns.offer(3, log.turn(3))
    await turns.settled()
    assert log.events == ["begin 1", "end 1"]
    assert log.given_up == {2: "over", 3: "over"}
