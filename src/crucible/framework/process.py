"""How does a stage run where it can be killed? In a process of its own, which gets its slots and sends back work."""

import asyncio
import multiprocessing
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from crucible.framework.context import StageContext
from crucible.framework.entries import Entry, Request
from crucible.framework.run import Run
from crucible.framework.stage import Stage
from crucible.framework.state import State
from crucible.telemetry import Bus, Event

_SPAWN = multiprocessing.get_context("spawn")  # a forked child would inherit torch's threads, locked as they were


class StageProcessError(RuntimeError):
    """A stage's process ended without an answer, or its failure could not be sent as it was."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What crosses over."""

    stage: Stage
    run: Run
    path: str
    slots: Mapping[str, object]


@dataclass(kw_only=True)
class _Outcome:
    """What comes back. written: slots by name. events: name, measurements, metadata."""

    written: dict[str, object] = field(default_factory=dict[str, object])
    entries: list[Entry] = field(default_factory=list[Entry])
    requests: list[Request] = field(default_factory=list[Request])
    events: list[tuple[str, Mapping[str, float], Mapping[str, object]]] = field(default_factory=list[Any])
    error: BaseException | None = None


async def call_in_process(stage: Stage, context: StageContext) -> None:
    """Run `execute` in a new process and take over what it wrote, recorded and emitted.

    A cancelled call kills the process.

    Raises:
        StageProcessError: if the process dies, or the stage or its slots cannot be sent.
        Exception: whatever the stage raised.
    """
    work = _Work(stage=stage, run=context.run, path=context.path, slots=context.readable())
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_serve, args=(theirs, work), daemon=True)
    try:
        await asyncio.to_thread(_start, process, context.path)
        theirs.close()
        outcome: _Outcome = await asyncio.to_thread(_receive, ours, process)
    finally:
        with suppress(ValueError, AttributeError):  # it was never started
            process.kill()
        ours.close()
    if outcome.error is not None:
        raise outcome.error
    context.take(outcome.written, outcome.entries, outcome.requests, outcome.events)


def _start(process: Any, path: str) -> None:
    try:
        process.start()
    except Exception as error:
        raise StageProcessError(f"{path}: the stage cannot be sent to a process: {error}") from error


def _receive(ours: Connection, process: Any) -> _Outcome:
    try:
        outcome = ours.recv()
    except (EOFError, OSError) as error:
        process.join(5)
        raise StageProcessError(f"the stage's process ended without an answer (exit {process.exitcode})") from error
    process.join()
    return outcome


def _serve(theirs: Connection, work: _Work) -> None:
    """The child's side."""
    outcome, state, bus = _Outcome(), State(), Bus()
    for name, value in work.slots.items():
        state.put(name, value)
    draft = state.draft()

    def tell(event: Event) -> None:
        outcome.events.append((event.name, event.measurements, event.metadata))

    bus.attach("parent", "*", tell)
    context = StageContext.alone(
        work.stage,
        run=work.run,
        path=work.path,
        state=draft,
        bus=bus,
        record=outcome.entries.append,
        requests=outcome.requests,
    )
    try:
        work.stage.execute(context)
        outcome.written = draft.values()
    except Exception as error:  # noqa: BLE001  (sent to the parent and raised there)
        error.add_note("".join(traceback.format_exception(error)))
        outcome.error = error
    try:
        theirs.send(outcome)
    except Exception as error:  # noqa: BLE001  (what cannot be pickled is said in words)
        failed = outcome.error or error
        theirs.send(_Outcome(error=StageProcessError(f"{type(failed).__name__}: {failed}")))
