"""Is every environment closed once, whatever became of its episode?"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from playing import CHAT, Echo, Scripted, digits, rolled

from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.rollout import RolloutError
from crucible.train.rl.strategy import FailFast, MinimumGroup, RetryMember


@dataclass(kw_only=True, eq=False)
class Holding(Echo):
    """Counts what is made and closed; `breaks` says at which made environment what breaks."""

    books: "Books"
    number: int = 0

    async def opening(self):
        self.books.breaks(self.number, "first")
        return await super().opening()

    async def reply(self, message):
        self.books.breaks(self.number, "turn")
        return await super().reply(message)

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.books.closed[self.number] += 1
        self.books.breaks(self.number, "close")


@dataclass(kw_only=True)
class Books:
    broken: dict[int, str] = field(default_factory=dict)
    made: int = 0
    closed: Counter[int] = field(default_factory=Counter)

    def make(self, seat) -> Holding:
        self.made += 1
        return Holding(renderer=CHAT, seat=seat, books=self, number=self.made - 1)

    def breaks(self, number: int, moment: str) -> None:
        if self.broken.get(number) == moment:
            raise ConnectionError(f"it broke at its {moment}")

    async def play(self, **options):
        builder = ProblemGroupBuilder(make_env=self.make, group_size=3)
        return await rolled(builder, Scripted(says=digits), **options)

    def are_balanced(self) -> bool:
        return self.closed == Counter(range(self.made))


@pytest.mark.parametrize("broken", [{}, {1: "first"}, {1: "turn"}, {1: "close"}, {0: "turn", 2: "turn", 4: "close"}])
@pytest.mark.parametrize("strategy", [RetryMember(), MinimumGroup(members=1), FailFast()])
async def test_every_environment_is_closed_once(broken, strategy) -> None:
    books = Books(broken=broken)
    if broken and strategy.raises:
        with pytest.raises(RolloutError):
            await books.play(strategy=strategy)
    else:
        await books.play(strategy=strategy)
    assert books.are_balanced()


async def test_an_environment_that_cannot_be_closed_has_failed() -> None:
    group = await Books(broken={1: "close"}).play(strategy=MinimumGroup())
    failed = group.trajectories[1]
    assert (failed.failure.what, len(failed.transitions)) == ("it broke at its close", 2)
    assert [reward is None for reward in group.rewards] == [False, True, False]


async def test_what_went_wrong_first_is_the_reason_although_closing_fails_too() -> None:
    class Twice(Books):
        def breaks(self, number: int, moment: str) -> None:
            if number == 1 and moment != "first":
                raise ConnectionError(f"it broke at its {moment}")

    group = await Twice().play(strategy=MinimumGroup())
    assert group.trajectories[1].failure.what == "it broke at its turn"


@pytest.mark.parametrize("turns_of_the_loop", range(12))
async def test_a_rollout_that_is_cancelled_at_any_moment_closes_what_it_made(turns_of_the_loop: int) -> None:
    books = Books()
    task = asyncio.create_task(books.play())
    for _ in range(turns_of_the_loop):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert books.are_balanced()
    assert asyncio.all_tasks() == {asyncio.current_task()}
