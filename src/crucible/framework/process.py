"""How does a stage run where it can be killed? In a process of its own, which gets its slots and sends back work."""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import FunctionType
from typing import Any

from crucible.framework.context import Allowed, StageContext
from crucible.framework.entries import Entry, Request
from crucible.framework.run import Run
from crucible.framework.stage import Stage
from crucible.framework.state import State
from crucible.framework.threads import Threads
from crucible.telemetry import Bus, Event

_SPAWN = multiprocessing.get_context("spawn")  # a forked child would inherit torch's threads, locked as they were
_GRACE = 10.0
"""Seconds that a process which has sent its outcome may take to end."""
_POLL = 0.2
"""Seconds after which a process is asked for again: what it has forked may hold its pipes open when it is gone."""


class StageProcessError(RuntimeError):
    """A stage's process ended without an answer, or something could not be sent to it or back."""


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What crosses over. run: its fields, since a mapping that cannot be changed cannot be sent."""

    stage: Stage
    run: Mapping[str, Any]
    path: str
    slots: Mapping[str, object]


@dataclass(kw_only=True)
class _Outcome:
    """What comes back. written: slots by name. events: name, measurements, metadata."""

    written: dict[str, object] = field(default_factory=dict[str, object])
    entries: list[Entry] = field(default_factory=list[Entry])
    requests: list[Request] = field(default_factory=list[Request])
    events: list[tuple[str, Mapping[str, float], Mapping[str, object]]] = field(default_factory=list[Any])
    raised: "_Raised | None" = None


class _Raised:
    """An exception on its way. One whose class has an `__init__` of its own is made again without it: pickle would
    call it with the message alone."""

    def __init__(self, error: BaseException) -> None:
        self._kind, self._args, self._facts = type(error), error.args, vars(error)
        self._whole = None if isinstance(self._kind.__init__, FunctionType) else error

    def error(self) -> BaseException:
        """The exception, as it was raised."""
        if self._whole is not None:
            return self._whole
        made = self._kind.__new__(self._kind, *self._args)
        vars(made).update(self._facts)
        return made


async def call_in_process(stage: Stage, context: StageContext, *, threads: Threads) -> None:
    """Run `execute` in a new process and take over what it wrote, recorded and emitted.

    A cancelled call kills the process, with all that it has started, and returns when it is gone. If this process is
    killed, so is that one.

    Raises:
        StageProcessError: if the process dies, or the stage, its slots or its outcome cannot be sent.
        Exception: whatever the stage raised.
    """
    facts = {**vars(context.run), "config": dict(context.run.config)}
    child = _Child(_Work(stage=stage, run=facts, path=context.path, slots=context.readable()))
    outcome = await threads.run(child.run, on_cancel=child.stop)
    if outcome.raised is not None:
        raise outcome.raised.error()
    context.take(outcome.written, outcome.entries, outcome.requests, outcome.events)


class _Child:
    """One process, from its start to its end: all but `stop` happens in one thread."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._stopped, self._stop = _SPAWN.Pipe(duplex=False)

    def stop(self) -> None:
        """Have it killed. Safe from another thread, and to call twice."""
        with suppress(OSError):  # it is over
            self._stop.send_bytes(b"!")

    def run(self) -> _Outcome:
        """Start it, wait for what it sends, and for its end.

        Raises:
            StageProcessError: as `call_in_process`; also if it was stopped.
        """
        ours, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=_serve, args=(theirs, self._work))
        with ours, self._stopped, self._stop:
            try:
                with theirs:
                    _start(process)
                while not wait([ours, self._stopped, process.sentinel], _POLL) and process.exitcode is None:
                    pass
                outcome = _received(ours) if ours.poll() and not self._stopped.poll() else None
                patience = time.monotonic() + (_GRACE if outcome is not None else 0.0)
                while process.exitcode is None and time.monotonic() < patience:
                    wait([process.sentinel], _POLL)
            finally:
                _end(process)
        if outcome is None:
            raise StageProcessError(f"the stage's process ended without an answer ({_how(process.exitcode)})")
        return outcome


def _start(process: Any) -> None:
    try:
        process.start()
    except Exception as error:
        raise StageProcessError(f"the stage cannot be sent to a process: {error}") from error


def _received(ours: Connection) -> _Outcome | None:
    try:
        return ours.recv()
    except (EOFError, OSError):
        return None
    except Exception as error:  # whatever a value's own class raises when it is made again
        raise StageProcessError(f"what the stage's process sent cannot be read: {error!r}") from error


def _end(process: Any) -> None:
    """Kill what is left of it, and of what it has started, also where it is gone itself; then wait for its end."""
    if process.pid is None:
        return
    with suppress(ProcessLookupError, PermissionError):  # it has not come to lead a group, or is a zombie on macOS
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _how(exit_code: int | None) -> str:
    assert exit_code is not None, "it is gone"
    return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


def _serve(theirs: Connection, work: _Work) -> None:
    """The child's side. It leads a process group, so that Ctrl-C in the terminal is its parent's to handle."""
    os.setsid()
    threading.Thread(target=_follow_parent, daemon=True).start()
    outcome = _done(work)
    try:
        theirs.send(outcome)
    except Exception as error:  # noqa: BLE001  (what cannot be pickled is said in words)
        theirs.send(_Outcome(raised=_Raised(_in_words(outcome, error))))


def _follow_parent() -> None:
    """Die with the parent, even by kill -9: whoever continues its run must not meet this process at work."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)


def _done(work: _Work) -> _Outcome:
    outcome, state, bus = _Outcome(), State(), Bus()
    for name, value in work.slots.items():
        state.put(name, value)
    draft = state.draft()

    def tell(event: Event) -> None:
        outcome.events.append((event.name, event.measurements, event.metadata))

    bus.attach("parent", "*", tell)
    context = StageContext.alone(
        work.stage,
        run=Run(**work.run),
        path=work.path,
        state=draft,
        bus=bus,
        record=outcome.entries.append,
        requests=outcome.requests,
    )
    try:
        work.stage.execute(context)
        allowed = Allowed.to(work.stage, ports=())
        updates = allowed.reads & allowed.writes - allowed.owes  # which it may have changed in place
        outcome.written = {**{name: state.get(name) for name in updates}, **draft.values()}
    except Exception as error:  # noqa: BLE001  (sent to the parent and raised there)
        error.add_note("".join(traceback.format_exception(error)))
        outcome.raised = _Raised(error)
    return outcome


def _in_words(outcome: _Outcome, reason: Exception) -> StageProcessError:
    if outcome.raised is None:
        return StageProcessError(f"what the stage made cannot be sent back: {reason}")
    error = outcome.raised.error()
    return StageProcessError(f"{type(error).__name__}: {error}")
