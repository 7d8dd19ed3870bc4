"""What is to be taken back when a run, or one branch of it, fails? What stages did since the last point."""

import asyncio
from collections.abc import Coroutine, Iterable
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
        self._kept: dict[tuple[int, str], Done] = {}  # before it: only to be released, each stage as it ran last

    def add(self, done: Done) -> None:
        """Note that a stage begins."""
        self._fresh.append(done)

    def hold(self, done: Done) -> None:
        """Note a stage that is only to be released: it, or the run that this one goes on with, has passed a point."""
        key = (id(done.stage), done.context.path)
        self._kept.pop(key, None)
        self._kept[key] = done  # the newest last

    def keep(self, position: Position) -> None:
        """A point is written there: what was done until then is not to be undone any more."""
        ahead = [done for done in self._fresh if done.is_ahead_of(position)]
        for done in self._fresh:
            if done not in ahead and type(done.stage).release is not Stage.release:
                self.hold(done)
        self._fresh = ahead

    async def one(self, done: Done, error: BaseException) -> None:
        """Take back one failed attempt.

        Raises:
            CancelledError: if this was cancelled meanwhile; it is taken back all the same.
        """
        before = cancels()
        await self._take_back([done], error)
        if cancels() > before:
            raise asyncio.CancelledError

    async def branch(self, branch: tuple[int, ...], error: BaseException) -> None:
        """Take back, newest first, what the stages of one failed branch did."""
        inside = [done for done in self._fresh if done.branch[: len(branch)] == branch]
        await self._take_back(reversed(inside), error)

    async def all(self, error: BaseException) -> None:
        """Take back, newest first, what stages did since the last point, and release what all of them hold."""
        await self._take_back(reversed(self._fresh), error)
        kept, self._kept = list(self._kept.values()), {}
        for done in reversed(kept):
            await _tried(done.stage.release(done.context), done, error)

    async def _take_back(self, several: Iterable[Done], error: BaseException) -> None:
        for done in list(several):
            self._fresh.remove(done)
            await _tried(done.stage.rollback(done.context, error), done, error)
            await _tried(done.stage.release(done.context), done, error)


async def _tried(step: Coroutine[Any, Any, None], done: Done, error: BaseException) -> None:
    """Do it to its end, unless cancelled twice: what is half undone is worse than what is slow."""
    task, asked = asyncio.create_task(_failure(step)), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if asked:
                task.cancel()
            asked = True
    another = task.result()
    if another is not None:
        error.add_note(f"and {done.context.path} could not be taken back: {type(another).__name__}: {another}")


async def _failure(step: Coroutine[Any, Any, None]) -> BaseException | None:
    try:
        await step
    except BaseException as error:  # noqa: BLE001  (the rest is taken back all the same, and the first one is the one to tell)
        return error
    return None


def cancels() -> int:
    """How often the current task was asked to end and has not said that it did: a stage may swallow it."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
