"""How does a checked workflow run? Node after node, one event before and one after each stage."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from crucible.errors import WorkflowError
from crucible.framework.check import check
from crucible.framework.conditions import Condition, holds
from crucible.framework.context import Allowed, StageContext
from crucible.framework.journal import Entry, Journal
from crucible.framework.nodes import Loop, Node, Range, When, Workflow, path_of
from crucible.framework.result import RunResult
from crucible.framework.run import Run
from crucible.framework.stage import Stage
from crucible.framework.state import State
from crucible.framework.workflow import written_slots
from crucible.ports import MetricsStore, Port
from crucible.telemetry import Bus, default_bus


async def execute(
    workflow: Workflow,
    run: Run,
    ports: Mapping[str, Port],
    *,
    telemetry: Bus | None = None,
    journal: Journal | None = None,
) -> RunResult:
    """Run a workflow to its end.

    ports: adapters by `port_name`. telemetry: the process's own bus if None. journal: None makes one that
    writes to `run.run_dir` and to the run's metrics store.

    Raises:
        WorkflowError: if `check` finds problems, before anything ran; or if a stage breaks its declaration.
        BaseException: whatever a stage raised, cancellation included, after `workflow.exception`; notes on it
            say in which stage.
    """
    problems = check(workflow, ports=ports)
    if problems:
        raise WorkflowError(problems)
    bus = telemetry or default_bus()
    if journal is None:
        store = ports.get(MetricsStore.port_name)
        assert store is None or isinstance(store, MetricsStore)
        journal = Journal(run_id=run.run_id, run_dir=run.run_dir, store=store)
    runner = _Runner(run=run, ports=ports, bus=bus, journal=journal)
    state = State()
    told = {"run_id": run.run_id, "recipe": run.recipe, "workflow": workflow.name}
    started = time.perf_counter_ns()
    bus.emit("workflow.start", {}, told)
    try:
        await runner.block(workflow.body, _Scope(path=workflow.name, state=state, record=journal.add))
        journal.flush()
    except BaseException as error:
        bus.emit("workflow.exception", {"duration_ns": time.perf_counter_ns() - started}, {**told, **_told(error)})
        raise
    duration = time.perf_counter_ns() - started
    bus.emit("workflow.stop", {"duration_ns": duration}, told)
    return RunResult(
        recipe=run.recipe,
        workflow=workflow.name,
        config=run.config,
        run_id=run.run_id,
        run_dir=run.run_dir,
        state=state.values(),
        metrics=journal.metrics,
        artifacts=journal.artifacts,
        results=journal.results,
        checkpoints=journal.checkpoints,
        completed_stages=list(journal.completed),
        stage_counts=journal.completed,
        started_at=run.started_at,
        duration=duration / 1e9,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """Where a node runs.

    path: of the enclosing node. prefix: of stage names inside a nested workflow. iteration: the enclosing
    loop's, from 1; 0 outside of loops. record: takes what stages record.
    """

    path: str
    state: State
    record: Callable[[Entry], None]
    prefix: str = ""
    iteration: int = 0


class _Runner:
    def __init__(self, *, run: Run, ports: Mapping[str, Port], bus: Bus, journal: Journal) -> None:
        self.run = run
        self.ports = ports
        self.bus = bus
        self.journal = journal
        self.allowed: dict[int, Allowed] = {}  # by id of the stage, which the workflow keeps alive

    async def block(self, nodes: Sequence[Node], scope: _Scope) -> None:
        for node in nodes:
            match node:
                case Stage():
                    await self.stage(node, scope)
                case Loop():
                    await self.loop(node, scope)
                case When():
                    branch = node.then if self.holds(node.condition, scope) else node.otherwise
                    await self.block(branch, scope)
                case Workflow():
                    inner = replace(scope, path=path_of(node, scope.path), prefix=f"{scope.prefix}{node.name} > ")
                    await self.block(node.body, inner)
                case _:
                    raise AssertionError(f"the plan lets no {type(node).__name__} through")

    async def loop(self, loop: Loop, scope: _Scope) -> None:
        path = path_of(loop, scope.path)
        held = written_slots(loop.body) | ({loop.bind.name} if loop.bind else set[str]())
        in_flight: deque[tuple[_Scope, list[Entry]]] = deque()
        for iteration, item in enumerate(self.items(loop, path, scope), start=1):
            if loop.bind is not None:
                scope.state.put(loop.bind.name, item)
            entries: list[Entry] = []
            record = entries.append if loop.settle else scope.record
            inside = replace(scope, path=path, iteration=iteration, record=record)
            await self.block(loop.body, inside)
            done = loop.until is not None and self.holds(loop.until, inside)
            if loop.settle:
                in_flight.append((replace(inside, state=scope.state.held(held), record=scope.record), entries))
                if len(in_flight) > loop.depth:
                    await self.settle(loop, *in_flight.popleft())
            if done:
                break
        while in_flight:
            await self.settle(loop, *in_flight.popleft())

    async def settle(self, loop: Loop, scope: _Scope, entries: Sequence[Entry]) -> None:
        """Settle an iteration, then commit what its body recorded: the journal's order is the same at every
        depth, and a checkpoint's line comes after the metrics of all the steps that are in it."""
        await self.block(loop.settle, scope)
        for entry in entries:
            scope.record(entry)

    def items(self, loop: Loop, path: str, scope: _Scope) -> Iterable[object]:
        if isinstance(loop.over, Range):
            return range(loop.over.n)
        items: Any = scope.state.get(loop.over.name)
        try:
            return iter(items)
        except TypeError as error:
            what = f"the loop runs over a slot that holds a {type(items).__name__}"
            raise WorkflowError.of(what, where=path, given=loop.over.name, fix="Write an iterable to it") from error

    def holds(self, condition: Condition, scope: _Scope) -> bool:
        return holds(condition, read=lambda slot: scope.state.get(slot.name), iteration=scope.iteration)

    async def stage(self, stage: Stage, scope: _Scope) -> None:
        path = path_of(stage, scope.path)
        allowed = self.allowed.get(id(stage))
        if allowed is None:
            allowed = Allowed.to(stage, ports=(*stage.ports, *stage.optional_ports))
            self.allowed[id(stage)] = allowed
        context = StageContext(
            run=self.run,
            stage=stage.name,
            path=path,
            allowed=allowed,
            state=scope.state,
            ports=self.ports,
            bus=self.bus,
            record=scope.record,
        )
        told = {"stage": stage.name, "path": path, "run_id": self.run.run_id}
        self.bus.emit("stage.start", {}, told)
        started = time.perf_counter_ns()
        try:
            await stage.validate(context)
            await self.call(stage, context)
            self.refuse_debt(stage, context, allowed)
        except BaseException as error:
            error.add_note(f"in the stage {path}")
            measured = {"duration_ns": time.perf_counter_ns() - started}
            self.bus.emit("stage.exception", measured, {**told, **_told(error)})
            raise
        self.journal.complete(scope.prefix + stage.name)
        self.bus.emit("stage.stop", {"duration_ns": time.perf_counter_ns() - started}, told)

    async def call(self, stage: Stage, context: StageContext) -> None:
        if stage.runs_in == "thread":
            await asyncio.to_thread(stage.execute, context)
            return
        outcome = stage.execute(context)
        assert outcome is not None, "a stage class is refused unless its execute is a coroutine"
        await outcome

    def refuse_debt(self, stage: Stage, context: StageContext, allowed: Allowed) -> None:
        """A reader downstream counts on every declared write, each time."""
        missing = allowed.owes - context.written
        if missing:
            raise WorkflowError.of(
                "the stage finished without writing a slot that it declares",
                where=context.path,
                given=", ".join(sorted(missing)),
                fix=f"{type(stage).__name__} must write it every time, or declare Updates",
            )


def _told(error: BaseException) -> dict[str, object]:
    return {"error": type(error).__name__, "message": str(error)}
