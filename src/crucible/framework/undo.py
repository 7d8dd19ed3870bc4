"""What is to be taken back when a run, or one branch of it, fails? What stages did since the last point."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crucible.framework.context import StageContext
from crucible.framework.position import Position
from crucible.framework.stage import Stage


@dataclass(eq=False, slots=True)
class Done:
    """A stage that has run, or is running. context: with the slots as it left them. position, branch: its scope's."""

    stage: Stage
    context: StageContext
    position: Position
    branch: tuple[int, ...]

    def is_ahead_of(self, position: Position) -> bool:
        """Whether it belongs to a later iteration than the one that ends there: begun early, to be pipelined."""
        if position.after or not position.frames:
            return False
        *outer, innermost = position.frames
        frames = self.position.frames
        if len(frames) <= len(outer) or frames[: len(outer)] != tuple(outer):
            return False
        here = frames[len(outer)]
        return here.node == innermost.node and here.iteration >= innermost.iteration


class Undo:
    """Remembers the stages that define `rollback` or `release`, in the order in which they began."""

    def __init__(self) -> None:
        self._fresh: list[Done] = []  # since the last point
        self._kept: list[Done] = []  # before it: only to be released

    def add(self, done: Done) -> None:
        """Note that a stage begins."""
        self._fresh.append(done)

    def keep(self, position: Position) -> None:
        """A point is written there: what was done until then is not to be undone any more."""
        ahead = [done for done in self._fresh if done.is_ahead_of(position)]
        holding = (done for done in self._fresh if done not in ahead and type(done.stage).release is not Stage.release)
        self._kept.extend(holding)
        self._fresh = ahead

    async def one(self, done: Done, error: BaseException) -> None:
        """Take back one failed attempt."""
        await self._take_back([done], error)

    async def branch(self, branch: tuple[int, ...], error: BaseException) -> None:
        """Take back, newest first, what the stages of one failed branch did."""
        inside = [done for done in self._fresh if done.branch[: len(branch)] == branch]
        await self._take_back(reversed(inside), error)

    async def all(self, error: BaseException) -> None:
        """Take back, newest first, what stages did since the last point, and release what all of them hold."""
        await self._take_back(reversed(self._fresh), error)
        kept, self._kept = self._kept, []
        for done in reversed(kept):
            await _tried(done.stage.release(done.context), done, error)

    async def _take_back(self, several: Iterable[Done], error: BaseException) -> None:
        for done in list(several):
            self._fresh.remove(done)
            await _tried(done.stage.rollback(done.context, error), done, error)
            await _tried(done.stage.release(done.context), done, error)


async def _tried(step: Any, done: Done, error: BaseException) -> None:
    try:
        await step
    except BaseException as another:  # noqa: BLE001  (the rest is taken back all the same, and `error` is the one to tell)
        error.add_note(f"and {done.context.path} could not be taken back: {type(another).__name__}: {another}")
