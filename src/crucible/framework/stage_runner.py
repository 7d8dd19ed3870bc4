"""How does one stage run? Validated, timed, tried again or skipped as it says, and taken back if the run fails."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crucible.errors import WorkflowError
from crucible.framework.context import Allowed, StageContext
from crucible.framework.entries import Completed, Entry, Request, Result
from crucible.framework.journal import Journal
from crucible.framework.nodes import path_of
from crucible.framework.process import call_in_process
from crucible.framework.run import Run
from crucible.framework.scope import Scope
from crucible.framework.slot import Durable, Rebuilt
from crucible.framework.snapshots import Snapshots
from crucible.framework.stage import Stage, StageTimeoutError
from crucible.framework.workflow import touches
from crucible.ports import Port
from crucible.telemetry import Bus

SKIPPED = "skipped_stages"


@dataclass(frozen=True, slots=True)
class _Known:
    """What is the same each time a stage runs. durable, rebuilt: the slots of either kind that it may change."""

    allowed: Allowed
    durable: frozenset[str]
    rebuilt: frozenset[str]
    undoes: bool


class StageRunner:
    """Runs stages, and remembers those that can be taken back."""

    def __init__(
        self, *, run: Run, ports: Mapping[str, Port], bus: Bus, journal: Journal, snapshots: Snapshots
    ) -> None:
        self._run, self._ports, self._bus, self._journal, self._snapshots = run, ports, bus, journal, snapshots
        self._known: dict[int, _Known] = {}  # by id of the stage, which the workflow keeps alive
        self._done: list[tuple[Stage, StageContext]] = []
        self._kept = 0

    async def run(self, stage: Stage, scope: Scope) -> None:
        """Run it, with its events."""
        path, known = path_of(stage, scope.path), self._of(stage)
        told = {"stage": stage.name, "path": path, "run_id": self._run.run_id}
        self._bus.emit("stage.start", {}, told)
        started = time.perf_counter_ns()
        try:
            if not (stage.retry or stage.on_error == "skip"):
                await self._once(stage, self._context(stage, scope, path))
            elif not await self._attempts(stage, scope, path, told):
                return
        except BaseException as error:
            error.add_note(f"in the stage {path}")
            measured = {"duration_ns": time.perf_counter_ns() - started}
            self._bus.emit("stage.exception", measured, {**told, **told_of(error)})
            raise
        finally:
            self._snapshots.changed(known.durable)
        if scope.boundaries:
            for name in known.rebuilt:
                self._snapshots.rebuilt(name, scope.state.get(name))
        scope.record(Completed(scope.prefix + stage.name))
        self._bus.emit("stage.stop", {"duration_ns": time.perf_counter_ns() - started}, told)

    async def rebuild(self, stage: Stage, scope: Scope, fingerprints: Mapping[str, str]) -> None:
        """Run it again for the rebuilt slots that it writes; whatever else it does leaves no trace.

        Raises:
            ResumeError: if a slot's value is not the one that the run began with.
        """
        from crucible.framework.resuming import require_same

        path, known = path_of(stage, scope.path), self._of(stage)
        told = {"stage": stage.name, "path": path, "run_id": self._run.run_id, "rebuild": True}
        self._bus.emit("stage.start", {}, told)
        started = time.perf_counter_ns()
        draft = scope.state.draft()
        context = self._context(stage, scope, path, state=draft, record=list[Entry]().append, requests=[])
        try:
            await self._once(stage, context)
            for name in known.rebuilt:
                require_same(name, draft.get(name), fingerprints, path=path)
                scope.state.put(name, draft.get(name))
        except BaseException as error:
            error.add_note(f"while {path} made its slots again")
            measured = {"duration_ns": time.perf_counter_ns() - started}
            self._bus.emit("stage.exception", measured, {**told, **told_of(error)})
            raise
        self._bus.emit("stage.stop", {"duration_ns": time.perf_counter_ns() - started}, told)

    def keep(self) -> None:
        """A point is written: what was done until now is not to be undone any more."""
        self._kept = len(self._done)

    async def unwind(self, error: BaseException) -> None:
        """Take back, newest first, what stages did since the last point, and release what all of them hold."""
        while self._done:
            stage, context = self._done.pop()
            undo = len(self._done) >= self._kept
            try:
                if undo:
                    await stage.rollback(context, error)
                await stage.release(context)
            except Exception as another:  # noqa: BLE001  (the rest is taken back all the same)
                error.add_note(f"and {context.path} could not be taken back: {type(another).__name__}: {another}")

    async def _attempts(self, stage: Stage, scope: Scope, path: str, told: Mapping[str, object]) -> bool:
        """Try, and try again; nothing of a failed attempt stays. False if the stage was skipped in the end."""
        started = time.perf_counter_ns()
        for attempt in range(stage.retry + 1):
            draft, entries, requests = scope.state.draft(), list[Entry](), list[Request]()
            context = self._context(stage, scope, path, state=draft, record=entries.append, requests=requests)
            try:
                await self._once(stage, context)
            except Exception as error:
                again = attempt < stage.retry and stage.retries(error)
                if not again and (stage.on_error != "skip" or isinstance(error, WorkflowError)):
                    raise
                about = {**told, **told_of(error), "attempt": attempt + 1}
                if not again:
                    measured = {"duration_ns": time.perf_counter_ns() - started}
                    self._bus.emit("stage.exception", measured, {**about, "skipped": True})
                    skipped = {**self._journal.results.get(SKIPPED, {}), path: f"{type(error).__name__}: {error}"}
                    scope.record(Result(SKIPPED, skipped))
                    return False
                wait = stage.backoff * 2**attempt
                self._bus.emit("stage.retry", {"attempt": attempt + 1, "seconds": wait}, about)
                await asyncio.sleep(wait)
                continue
            draft.commit()
            scope.requests.extend(requests)
            for entry in entries:
                scope.record(entry)
            return True
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, stage: Stage, context: StageContext) -> None:
        known = self._of(stage)
        if known.undoes:
            self._done.append((stage, context))
        try:
            await stage.validate(context)
            if stage.timeout is None:
                await self._call(stage, context)
            else:
                await self._timed(stage, context, stage.timeout)
            self._refuse_debt(stage, context, known.allowed)
        except Exception as error:
            if known.undoes and (stage.retry or stage.on_error == "skip"):
                self._done.remove((stage, context))
                await _take_back(stage, context, error)
            raise

    async def _timed(self, stage: Stage, context: StageContext, seconds: float) -> None:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await self._call(stage, context)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StageTimeoutError(f"the stage took longer than its timeout of {seconds:g} s") from error

    async def _call(self, stage: Stage, context: StageContext) -> None:
        match stage.runs_in:
            case "thread":
                await asyncio.to_thread(stage.execute, context)
            case "process":
                await call_in_process(stage, context)
            case "loop":
                outcome = stage.execute(context)
                assert outcome is not None, "a stage class is refused unless its execute is a coroutine"
                await outcome

    def _context(self, stage: Stage, scope: Scope, path: str, **instead: Any) -> StageContext:
        return StageContext(
            run=self._run,
            stage=stage.name,
            path=path,
            allowed=self._of(stage).allowed,
            state=instead.get("state", scope.state),
            ports=self._ports,
            bus=self._bus,
            record=instead.get("record", scope.record),
            requests=instead.get("requests", scope.requests),
        )

    def _of(self, stage: Stage) -> _Known:
        known = self._known.get(id(stage))
        if known is None:
            changed = [touch.slot for touch in touches((stage,)) if touch.access != "reads"]
            known = _Known(
                allowed=Allowed.to(stage, ports=(*stage.ports, *stage.optional_ports)),
                durable=frozenset(slot.name for slot in changed if isinstance(slot.survives, Durable)),
                rebuilt=frozenset(
                    slot.name
                    for slot in changed
                    if isinstance(slot.survives, Rebuilt) and slot.survives.by == stage.name
                ),
                undoes=type(stage).rollback is not Stage.rollback or type(stage).release is not Stage.release,
            )
            self._known[id(stage)] = known
        return known

    def _refuse_debt(self, stage: Stage, context: StageContext, allowed: Allowed) -> None:
        """A reader downstream counts on every declared write, each time."""
        missing = allowed.owes - context.written
        if missing:
            raise WorkflowError.of(
                "the stage finished without writing a slot that it declares",
                where=context.path,
                given=", ".join(sorted(missing)),
                fix=f"{type(stage).__name__} must write it every time, or declare Updates",
            )


async def _take_back(stage: Stage, context: StageContext, error: BaseException) -> None:
    try:
        await stage.rollback(context, error)
        await stage.release(context)
    except Exception as another:  # noqa: BLE001  (the attempt's own failure is the one to tell)
        error.add_note(f"and {context.path} could not be taken back: {type(another).__name__}: {another}")


def told_of(error: BaseException) -> dict[str, object]:
    """An error as an event's metadata."""
    return {"error": type(error).__name__, "message": str(error)}
