"""How does one stage run? Validated, timed, tried again or skipped as it says, and taken back if the run fails."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from crucible.errors import WorkflowError
from crucible.framework.cache import StageCache
from crucible.framework.context import Allowed, StageContext
from crucible.framework.entries import Completed, Entry, Request, Skipped
from crucible.framework.nodes import Workflow, path_of
from crucible.framework.point import Point
from crucible.framework.position import BEGINNING, Position
from crucible.framework.process import call_in_process
from crucible.framework.run import Run
from crucible.framework.scope import Scope
from crucible.framework.slot import Durable, Rebuilt
from crucible.framework.snapshots import Snapshots
from crucible.framework.stage import Stage, StageTimeoutError
from crucible.framework.state import State
from crucible.framework.survival import closed_by, holders
from crucible.framework.threads import Threads
from crucible.framework.undo import Done, Undo, cancels
from crucible.framework.workflow import touches
from crucible.ports import Port
from crucible.telemetry import Bus

_How: TypeAlias = Literal["ran", "cached", "skipped"]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is the same each time a stage runs. durable, rebuilt: the slots of either kind that it may change. closed:
    those that it closes."""

    allowed: Allowed
    durable: frozenset[str]
    rebuilt: frozenset[str]
    closed: frozenset[str]
    undoes: bool


class StageRunner:
    """Runs stages; `undo` remembers those that can be taken back.

    threads: for the stages that do not run in the loop.
    """

    def __init__(
        self, *, run: Run, ports: Mapping[str, Port], bus: Bus, snapshots: Snapshots, threads: Threads
    ) -> None:
        self._run, self._ports, self._bus, self._snapshots, self._threads = run, ports, bus, snapshots, threads
        self._known: dict[int, _Known] = {}  # by id of the stage, which the workflow keeps alive
        self._cache = StageCache(run.cache_dir, bus=bus) if run.cache_dir is not None else None
        self.undo = Undo()

    async def run(self, stage: Stage, scope: Scope) -> None:
        """Run it, with its events."""
        path, known = path_of(stage, scope.path), self._of(stage)
        told = {"stage": stage.name, "path": path, "run_id": self._run.run_id}
        self._bus.emit("stage.start", {}, told)
        started = time.perf_counter_ns()
        try:
            if self._cache is not None and stage.pure:
                outcome = await self._cached(self._cache, stage, scope, told)
            else:
                outcome = await self._work(stage, scope, told)
            if outcome == "skipped":
                return
        except BaseException as error:
            error.add_note(f"in the stage {path}")
            measured = {"duration_ns": time.perf_counter_ns() - started}
            self._bus.emit("stage.exception", measured, {**told, **told_of(error)})
            raise
        finally:
            self._snapshots.changed(known.durable)
        self._snapshots.ended(known.closed)
        if scope.boundaries:
            for name in sorted(known.rebuilt):
                self._snapshots.rebuilt(name, scope.state.get(name))
        scope.record(Completed(scope.prefix + stage.name))
        ended = {**told, "cached": True} if outcome == "cached" else told
        self._bus.emit("stage.stop", {"duration_ns": time.perf_counter_ns() - started}, ended)

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
        try:
            how = await self._work(stage, replace(scope, state=draft, record=list[Entry]().append, requests=[]), told)
            for name in sorted(known.rebuilt) if how == "ran" else ():
                require_same(name, draft.get(name), fingerprints, path=path)
                scope.state.put(name, draft.get(name))
        except BaseException as error:
            error.add_note(f"while {path} made its slots again")
            measured = {"duration_ns": time.perf_counter_ns() - started}
            self._bus.emit("stage.exception", measured, {**told, **told_of(error)})
            raise
        self.undo.keep(BEGINNING)  # the run counts on it from before its last point
        self._bus.emit("stage.stop", {"duration_ns": time.perf_counter_ns() - started}, told)

    async def load(self, workflow: Workflow, state: State, point: Point, slots: Sequence[str]) -> None:
        """Put a point's slots into the state. Should this run fail too, or already the next slot, the stages that
        made them `release` them.

        Raises:
            CheckpointError: if one is missing or damaged; then the state has none of them.
        """
        loaded = state.draft()
        try:
            await self._snapshots.load(point.slots, slots, loaded)
        except BaseException as error:
            self._hold(workflow, point.position, loaded)
            await self.undo.all(error)
            raise
        loaded.commit()
        self._hold(workflow, point.position, loaded)

    def _hold(self, workflow: Workflow, position: Position, loaded: State) -> None:
        for path, stage in holders(workflow, position, loaded.values()):
            scope = Scope(path=path, state=loaded, record=list[Entry]().append)
            context = self._context(stage, scope, path)
            context.written.update(self._of(stage).allowed.writes & loaded.values().keys())
            self.undo.hold(Done(stage, context, position, ()))

    async def _cached(self, cache: StageCache, stage: Stage, scope: Scope, told: Mapping[str, object]) -> _How:
        """What an earlier run of the same has kept; else run it, and keep what it makes."""
        key = await cache.key(stage, scope.state, told)
        kept = await cache.found(key, stage, told) if key is not None else None
        if key is None:
            return await self._work(stage, scope, told)
        draft, entries = scope.state.draft(), list[Entry]()
        if kept is not None:
            how, entries = "cached", kept.entries
            for name, value in kept.slots.items():
                draft.put(name, value)
        else:
            how = await self._work(stage, replace(scope, state=draft, record=entries.append), told)
            if how == "ran":
                await cache.keep(key, stage, draft, entries, told)
        draft.commit()
        for entry in entries:
            scope.record(entry)
        return how

    async def _work(self, stage: Stage, scope: Scope, told: Mapping[str, object]) -> _How:
        """Once, or as often as it takes.

        Raises:
            CancelledError: if this was cancelled, whatever the stage has made of that.
        """
        path, before = str(told["path"]), cancels()
        how: _How = "ran"
        if stage.retry or stage.on_error == "skip":
            how = await self._attempts(stage, scope, path, told)
        else:
            await self._once(stage, scope, path)
        if cancels() > before:
            raise asyncio.CancelledError
        return how

    async def _attempts(self, stage: Stage, scope: Scope, path: str, told: Mapping[str, object]) -> _How:
        """Try, and try again; nothing of a failed attempt stays."""
        started, before = time.perf_counter_ns(), cancels()
        for attempt in range(stage.retry + 1):
            draft, entries, requests = scope.state.draft(), list[Entry](), list[Request]()
            try:
                await self._once(stage, replace(scope, state=draft, record=entries.append, requests=requests), path)
            except Exception as error:
                if cancels() > before:
                    raise asyncio.CancelledError from error
                again = attempt < stage.retry and stage.retries(error)
                if not again and (stage.on_error != "skip" or isinstance(error, WorkflowError)):
                    raise
                about = {**told, **told_of(error), "attempt": attempt + 1}
                if not again:
                    measured = {"duration_ns": time.perf_counter_ns() - started}
                    self._bus.emit("stage.exception", measured, {**about, "skipped": True})
                    scope.record(Skipped(path, f"{type(error).__name__}: {error}"))
                    return "skipped"
                wait = stage.backoff * 2**attempt
                self._bus.emit("stage.retry", {"attempt": attempt + 1, "seconds": wait}, about)
                await asyncio.sleep(wait)
                continue
            draft.commit()
            scope.requests.extend(requests)
            for entry in entries:
                scope.record(entry)
            return "ran"
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, stage: Stage, scope: Scope, path: str) -> None:
        known, context = self._of(stage), self._context(stage, scope, path)
        if not known.undoes:
            await self._timed(stage, context)
            return
        done = Done(stage, context, scope.position, scope.branch)
        self.undo.add(done)
        try:
            await self._timed(stage, context)
        except Exception as error:
            if stage.retry or stage.on_error == "skip":
                await self.undo.one(done, error)
            raise
        left = scope.state.held(known.allowed.reads | known.allowed.writes)
        done.context = self._context(stage, replace(scope, state=left), path)
        done.context.written.update(context.written)

    async def _timed(self, stage: Stage, context: StageContext) -> None:
        if stage.timeout is None:
            await self._call(stage, context)
            return
        clock = asyncio.get_running_loop().time
        due = clock() + stage.timeout
        limit, late = asyncio.timeout(stage.timeout), f"the stage took longer than its timeout of {stage.timeout:g} s"
        try:
            async with limit:
                await self._call(stage, context)
        except Exception as error:
            if limit.expired():  # whatever it made of being cancelled
                raise StageTimeoutError(late) from error
            raise
        if limit.expired() or clock() > due:  # a stage that blocks the loop is not cancelled, but late all the same
            raise StageTimeoutError(late)

    async def _call(self, stage: Stage, context: StageContext) -> None:
        await stage.validate(context)
        match stage.runs_in:
            case "loop":
                outcome = stage.execute(context)
                assert outcome is not None, "a stage class is refused unless its execute is a coroutine"
                await outcome
            case "thread":
                await self._threads.run(lambda: stage.execute(context))
            case "process":
                await call_in_process(stage, context, threads=self._threads)
        self._refuse_debt(stage, context)

    def _context(self, stage: Stage, scope: Scope, path: str) -> StageContext:
        return StageContext(
            run=self._run,
            stage=stage.name,
            path=path,
            allowed=self._of(stage).allowed,
            state=scope.state,
            ports=self._ports,
            bus=self._bus,
            record=scope.record,
            requests=scope.requests,
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
                closed=closed_by(stage),
                undoes=type(stage).rollback is not Stage.rollback or type(stage).release is not Stage.release,
            )
            self._known[id(stage)] = known
        return known

    def _refuse_debt(self, stage: Stage, context: StageContext) -> None:
        """A reader downstream counts on every declared write, each time."""
        missing = self._of(stage).allowed.owes - context.written
        if missing:
            raise WorkflowError.of(
                "the stage finished without writing a slot that it declares",
                where=context.path,
                given=", ".join(sorted(missing)),
                fix=f"{type(stage).__name__} must write it every time, or declare Updates",
            )


def told_of(error: BaseException) -> dict[str, object]:
    """An error as an event's metadata."""
    return {"error": type(error).__name__, "message": str(error)}
