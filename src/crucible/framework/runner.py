"""In which order do a workflow's nodes run, and where among them is a point written?"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from typing import Any

from crucible.framework.conditions import Condition, holds
from crucible.framework.entries import Completed, Entry, Failures, Request
from crucible.framework.items import items_of
from crucible.framework.journal import Journal
from crucible.framework.nodes import Loop, Node, Parallel, Stream, When, Workflow, blocks_of, path_of, stages_in
from crucible.framework.position import Cursor, Position, cursor_to, holds_name
from crucible.framework.resuming import History, Resumed, restore
from crucible.framework.run import Run
from crucible.framework.scope import Scope
from crucible.framework.snapshots import Begun, Snapshots
from crucible.framework.stage import Stage
from crucible.framework.stage_runner import StageRunner
from crucible.framework.state import State
from crucible.framework.stopping import RunStopped, Stop
from crucible.framework.survival import durable_slots, rebuilders
from crucible.framework.threads import Threads
from crucible.framework.together import together
from crucible.framework.versioned import fed_back
from crucible.framework.workflow import written_slots
from crucible.ports import Port
from crucible.telemetry import Bus

_UNASKED = Request(name="", record=None, rolling=True)
"""The checkpoint of a run that is asked to stop."""


@dataclass(frozen=True)
class _InFlight:
    """An iteration whose body has run and whose settle has not."""

    scope: Scope
    entries: Sequence[Entry]
    begun: Begun | None
    position: Position


class Runner:
    """Walks one workflow, from its beginning or from where its history ends. Made by `execute`."""

    def __init__(
        self, workflow: Workflow, *, run: Run, ports: Mapping[str, Port], bus: Bus, journal: Journal, stop: Stop
    ) -> None:
        self.workflow, self.run, self.bus, self.journal, self.stop = workflow, run, bus, journal, stop
        self.state = State()
        self.snapshots = Snapshots(durable_slots(workflow), run=run, ports=ports, journal=journal, bus=bus)
        # a stage runs once at a time, so that many threads let all of them run side by side
        self.threads = Threads(sum(stage.runs_in != "loop" for stage in stages_in(workflow.body)))
        self.stages = StageRunner(run=run, ports=ports, bus=bus, snapshots=self.snapshots, threads=self.threads)
        self.branches = count(1)
        self.resumed: Resumed | None = None
        self.again: frozenset[int] = frozenset()  # by id: the stages to run again for the slots that they write
        self.in_loop, self.committing, self.ended = 0, False, False

    async def whole(self, history: History | None) -> None:
        """The workflow, from its beginning or from where its history ends."""
        cursor = Cursor((), "")
        if history is not None:
            load = partial(self.stages.load, self.workflow, self.state)
            self.resumed = await restore(
                self.workflow, history, load=load, journal=self.journal, snapshots=self.snapshots
            )
            cursor = cursor_to(self.resumed.position)
            self.again = frozenset(id(stage) for stage in rebuilders(self.workflow, self.resumed.position))
            about = {"run_id": self.run.run_id, "position": str(self.resumed.position)}
            self.bus.emit("workflow.resume", {}, {**about, "skipped": list(self.resumed.skipped)})
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        self.stop.attend(lambda: self.interrupt(task, loop))
        try:
            scope = Scope(path=self.workflow.name, state=self.state, record=self.journal.add)
            await self.block(self.workflow.body, scope, cursor)
        except asyncio.CancelledError as error:
            if self.stop.wanted and task is not None and task.uncancel() == 0:
                raise RunStopped(f"stopped at {self.journal.last.position}") from error
            raise
        finally:
            self.ended = True
            self.stop.attend(None)

    def interrupt(self, task: "asyncio.Task[Any] | None", loop: asyncio.AbstractEventLoop) -> None:
        """Outside of a loop that will look at the wish itself, cancel: a point is behind every stage. A checkpoint that
        is being written is let be: the end comes behind it."""

        def cancel() -> None:
            if not self.in_loop and not self.committing and not self.ended and task is not None:
                task.cancel()

        loop.call_soon_threadsafe(cancel)

    async def block(self, nodes: Sequence[Node], scope: Scope, cursor: Cursor) -> None:
        """Run the nodes, or those that are left of them behind the cursor."""
        skipping = cursor if cursor.target else None
        for node in nodes:
            if skipping is None:
                await self.node(node, scope)
                await self.boundary(node, scope)
            elif not holds_name(node, skipping.target):
                await self.rebuild(node, scope)
            else:
                if skipping.frames or isinstance(node, When):
                    await self.enter(node, scope, skipping)
                    await self.boundary(node, scope)
                else:
                    await self.rebuild(node, scope)
                skipping = None

    async def enter(self, node: Node, scope: Scope, cursor: Cursor) -> None:
        """Go on inside a node."""
        match node:
            case When():
                (branch,) = [b for b in blocks_of(node) if any(holds_name(inner, cursor.target) for inner in b)]
                await self.block(branch, scope, cursor)
            case Loop():
                await self.loop(node, scope, start=cursor.frames[0].iteration, cursor=cursor.down())
            case Stream():
                await self.stream(node, scope, start=cursor.frames[0].iteration)
            case Workflow():
                await self.block(node.body, self.inside(node, scope), cursor.down())
            case _:
                raise AssertionError("no position lies inside any other node")

    async def rebuild(self, node: Node, scope: Scope) -> None:
        """Run again what makes the slots that are needed, in a node that is done."""
        match node:
            case Stage() if id(node) in self.again:
                assert self.resumed is not None
                await self.stages.rebuild(node, scope, self.resumed.point.fingerprints)
            case Workflow() | Parallel():
                for block in blocks_of(node):
                    for inner in block:
                        await self.rebuild(inner, self.inside(node, scope) if isinstance(node, Workflow) else scope)
            case _:
                pass

    async def node(self, node: Node, scope: Scope) -> None:
        match node:
            case Stage():
                await self.stages.run(node, scope)
            case Loop():
                await self.loop(node, scope)
            case When():
                branch = node.then if self.holds(node.condition, scope) else node.otherwise
                await self.block(branch, scope, Cursor((), ""))
            case Parallel():
                await self.parallel(node, scope)
            case Stream():
                await self.stream(node, scope)
            case Workflow():
                await self.block(node.body, self.inside(node, scope), Cursor((), ""))

    def inside(self, node: Workflow, scope: Scope) -> Scope:
        return replace(
            scope,
            path=path_of(node, scope.path),
            prefix=f"{scope.prefix}{node.name} > ",
            position=scope.position.inside(node.name),
        )

    async def boundary(self, node: Node, scope: Scope) -> None:
        """After a node outside of loops: the checkpoint that was asked for, or a point if it costs nothing."""
        if not scope.boundaries or isinstance(node, When):
            return
        position = scope.position.past(node.name)
        if scope.requests:
            await self.commit_here(scope.requests, position, scope)
            scope.requests.clear()
            if self.stop.wanted and not self.in_loop:
                raise RunStopped(f"stopped at {position}")
        elif self.stop.wanted and not self.in_loop:
            await self.halt(position, scope)
        else:
            self.snapshots.boundary(position, scope.state)
        if self.journal.last.position == position:
            self.stages.undo.keep(position)

    async def halt(self, position: Position, scope: Scope) -> None:
        """Write a checkpoint here, and end."""
        await self.commit_here([_UNASKED], position, scope)
        raise RunStopped(f"stopped at {position}")

    async def commit_here(self, requests: Sequence[Request], position: Position, scope: Scope) -> None:
        """Write the checkpoint that was asked for; a wish to stop waits for it."""
        self.committing = True
        try:
            await self.commit(self.snapshots.begin(requests, position, scope.state), position, scope)
        finally:
            self.committing = False

    async def commit(
        self, begun: Begun, position: Position, scope: Scope, *, late: frozenset[str] = frozenset()
    ) -> None:
        await self.snapshots.finish(begun, position, scope.state, late=late, pending=scope.above)
        if self.journal.writes:
            self.stages.undo.keep(position)

    async def loop(self, loop: Loop, scope: Scope, *, start: int = 0, cursor: Cursor | None = None) -> None:
        path = path_of(loop, scope.path)
        cursor = cursor or Cursor((), "")
        if start and not cursor.target and self.was_last(loop, path, scope, start):
            return
        held = written_slots(loop.body) | ({loop.bind.name} if loop.bind else set[str]())
        late = written_slots(loop.settle)
        in_flight: deque[_InFlight] = deque()
        self.in_loop += scope.loops
        try:
            for iteration, item in enumerate(self.items(loop, path, scope, start), start=start + 1):
                self.bind(loop, item, scope)
                entries: list[Entry] = []
                requests = self.pending(len(scope.above)) if cursor.target else []
                inside = replace(
                    scope,
                    path=path,
                    iteration=iteration,
                    record=entries.append if loop.settle else scope.record,
                    requests=requests,
                    above=(*scope.above, requests),
                    position=scope.position.inside(loop.name, iteration - 1),
                    boundaries=False,
                    loops=scope.loops and not loop.settle,
                )
                await self.block(loop.body, inside, cursor)
                cursor = Cursor((), "")
                _tell_seen(entries, scope)
                done = loop.until is not None and self.holds(loop.until, inside)
                position = scope.position.inside(loop.name, iteration)
                stopping = scope.loops and self.stop.wanted
                begun = self.begin(inside.requests, position, scope, late=late, stopping=stopping)
                view = scope.state.held(held) if loop.settle else scope.state
                settling = replace(inside, state=view, record=scope.record, above=scope.above)
                in_flight.append(_InFlight(settling, entries, begun, position))
                while len(in_flight) > (0 if stopping or not loop.settle else loop.depth):
                    await self.settle(loop, in_flight.popleft(), late)
                if stopping:
                    raise RunStopped(f"stopped at {position}")
                if done:
                    break
            while in_flight:
                await self.settle(loop, in_flight.popleft(), late)
        finally:
            self.in_loop -= scope.loops

    def pending(self, depth: int) -> list[Request]:
        """What the iteration that is gone on with had asked for already."""
        kept = self.resumed.point.pending if self.resumed is not None else ()
        return list(kept[depth]) if depth < len(kept) else []

    def was_last(self, loop: Loop, path: str, scope: Scope, start: int) -> bool:
        """Whether a loop that is continued between two iterations had ended with the one before."""
        if loop.until is None:
            return False
        if loop.bind is not None:
            for item in islice(iter(self.items(loop, path, scope, start - 1)), 1):
                self.bind(loop, item, scope)
        return self.holds(loop.until, replace(scope, iteration=start))

    def begin(
        self, requests: list[Request], position: Position, scope: Scope, *, late: frozenset[str], stopping: bool
    ) -> Begun | None:
        """Start saving what this iteration's checkpoint holds, before the next one changes it."""
        wanted = requests or ([_UNASKED] if stopping else [])
        if not scope.loops or not wanted:
            return None
        return self.snapshots.begin(wanted, position, scope.state, late=late)

    async def settle(self, loop: Loop, done: _InFlight, late: frozenset[str]) -> None:
        """Settle an iteration, then commit what its body recorded: the journal's order is the same at every
        depth, and a checkpoint's line comes after the metrics of all the steps that are in it."""
        await self.block(loop.settle, done.scope, Cursor((), ""))
        for entry in done.entries:
            done.scope.record(entry)
        if done.begun is not None:
            await self.commit(done.begun, done.position, done.scope, late=late)

    async def parallel(self, node: Parallel, scope: Scope) -> None:
        """Each branch on a draft of the slots; the drafts and records are put together in the branches' order."""
        gate = asyncio.Semaphore(node.max_concurrency or len(node.branches) or 1)
        path = path_of(node, scope.path)
        drafts = [scope.state.draft() for _ in node.branches]
        records: list[list[Entry]] = [[] for _ in node.branches]

        async def run(number: int) -> None:
            inside = replace(
                scope,
                path=path,
                state=drafts[number],
                record=records[number].append,
                requests=[],
                boundaries=False,
                loops=False,
                branch=(*scope.branch, next(self.branches)),
            )
            async with gate:
                try:
                    await self.block(node.branches[number], inside, Cursor((), ""))
                except Exception as error:
                    if node.on_error == "continue":
                        await self.stages.undo.branch(inside.branch, error)
                    raise

        works = [partial(run, number) for number in range(len(node.branches))]
        failures = await together(works, halt=node.on_error == "halt")
        for number, (draft, entries) in enumerate(zip(drafts, records, strict=True)):
            if number not in failures:
                draft.commit()
                for entry in entries:
                    scope.record(entry)
        if failures:
            where = f"{scope.position} > " if scope.position.frames else ""
            why = {f"{where}{number}": f"{type(error).__name__}: {error}" for number, error in failures.items()}
            scope.record(Failures(f"{node.name}_failures", why))

    async def stream(self, node: Stream, scope: Scope, *, start: int = 0) -> None:
        """Producer and consumer as two tasks; a place in the queue is free again when its item was consumed."""
        path = path_of(node, scope.path)
        held = written_slots(node.produce) | ({node.bind.name} if node.bind else set[str]())
        places = asyncio.Semaphore(node.capacity)
        made: asyncio.Queue[_InFlight | None] = asyncio.Queue()

        async def produce() -> None:
            items = enumerate(self.items(node, path, scope, start), start=start + 1)
            while True:
                await places.acquire()
                if (scope.loops and self.stop.wanted) or (number_item := next(items, None)) is None:
                    break
                iteration, item = number_item
                self.bind(node, item, scope)
                entries: list[Entry] = []
                inside = replace(
                    scope,
                    path=path,
                    iteration=iteration,
                    state=fed_back(node, scope.state, iteration),
                    record=entries.append,
                    requests=[],
                    position=scope.position.inside(node.name, iteration - 1),
                    boundaries=False,
                    loops=False,
                )
                await self.block(node.produce, inside, Cursor((), ""))
                consuming = replace(inside, state=scope.state.held(held), record=scope.record)
                made.put_nowait(_InFlight(consuming, entries, None, scope.position.inside(node.name, iteration)))
            made.put_nowait(None)

        async def consume() -> None:
            last = scope.position.inside(node.name, start)
            while (item := await made.get()) is not None:
                await self.consumed(node, item, scope, ahead=held)
                last = item.position
                places.release()
            if scope.loops and self.stop.wanted:  # the producer has stopped as well: nothing is ahead
                await self.halt(last, scope)

        self.in_loop += scope.loops
        try:
            await together([produce, consume], halt=True)
        finally:
            self.in_loop -= scope.loops

    async def consumed(self, node: Stream, item: _InFlight, scope: Scope, *, ahead: frozenset[str]) -> None:
        """Consume one item; then the checkpoint that was asked for. ahead: what the producer may have changed since,
        which this checkpoint holds as it was and the next one holds anew."""
        _tell_seen(item.entries, scope)
        await self.block(node.consume, item.scope, Cursor((), ""))
        for entry in item.entries:
            item.scope.record(entry)
        seen = replace(scope, state=item.scope.state)
        begun = self.begin(item.scope.requests, item.position, seen, late=frozenset(), stopping=False)
        if begun is not None:
            self.snapshots.changed(ahead)
            await self.commit(begun, item.position, item.scope)

    def bind(self, loop: Loop | Stream, item: object, scope: Scope) -> None:
        """Give the item to the slot that the loop binds, which a checkpoint may hold."""
        if loop.bind is not None:
            scope.state.put(loop.bind.name, item)
            self.snapshots.changed((loop.bind.name,))

    def items(self, loop: Loop | Stream, path: str, scope: Scope, start: int) -> Iterable[object]:
        """What is left of the items from the number `start` on."""
        return items_of(loop, scope.state, path=path, start=start)

    def holds(self, condition: Condition, scope: Scope) -> bool:
        return holds(condition, read=lambda slot: scope.state.get(slot.name), iteration=scope.iteration)


def _tell_seen(entries: Iterable[Entry], scope: Scope) -> None:
    """Say which stages have finished, in the order in which they first did, before what they did is counted."""
    for entry in entries:
        if isinstance(entry, Completed):
            scope.record(Completed(entry.stage, times=0))
