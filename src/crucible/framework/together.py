"""How do several works run side by side, and end together?"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from crucible.errors import WorkflowError
from crucible.framework.stopping import RunStopped


async def together(works: Sequence[Callable[[], Coroutine[Any, Any, None]]], *, halt: bool) -> dict[int, BaseException]:
    """Await all; with `halt`, the first failure cancels the others and is raised. The failures, by number.

    What is no `Exception` (an interrupt, being cancelled) always halts, and so does a workflow that is wrong.
    All have ended when this returns.
    """
    tasks = [asyncio.create_task(_failure(work)) for work in works]
    failures: dict[int, BaseException] = {}
    fatal: BaseException | None = None
    try:
        waiting = set(tasks)
        while waiting and fatal is None:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for number in [number for number, task in enumerate(tasks) if task in done]:
                if (error := tasks[number].result()) is not None:
                    failures[number] = error
                    ends = halt or not isinstance(error, Exception) or isinstance(error, RunStopped | WorkflowError)
                    fatal = error if ends and fatal is None else fatal
    finally:
        for task in tasks:
            task.cancel()
        await _ended(tasks)
    if fatal is not None:
        raise fatal
    return dict(sorted(failures.items()))


async def _failure(work: Callable[[], Coroutine[Any, Any, None]]) -> BaseException | None:
    """What it raised, as a value: a task that raises an interrupt would take the event loop down with it."""
    try:
        await work()
    except BaseException as error:  # noqa: BLE001  (raised by who awaits the task)
        return error
    return None


async def _ended(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    """Wait until all are done, even if cancelled meanwhile: they work on what is about to be taken back, and are
    told."""
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
            for task in tasks:
                task.cancel()
    if cancelled is not None:
        raise cancelled
