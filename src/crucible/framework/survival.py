"""Which slots does a run need when it is continued at a position, and who makes them again?

A durable slot comes back from the checkpoint. A rebuilt one comes from running its stage again, which gives the
same value only if nothing that the stage reads, and nothing else that writes the slot, came between.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crucible.errors import Problem
from crucible.framework.codec import codec_named
from crucible.framework.conditions import slots_read
from crucible.framework.declaration import slots_of
from crucible.framework.nodes import Loop, Node, Parallel, Range, Stream, When, Workflow, blocks_of, placed, stages_in
from crucible.framework.position import Cursor, Position, cursor_to, holds_name
from crucible.framework.slot import UPDATES, WRITES, Durable, Rebuilt, Slot
from crucible.framework.stage import Stage
from crucible.framework.workflow import touches, written_slots


def positions(workflow: Workflow) -> Iterator[Position]:
    """Every kind of position a run of it may be continued at; of a loop, the start of its second iteration."""
    return _positions(workflow.body, Position(), boundaries=True)


def _positions(nodes: Iterable[Node], here: Position, *, boundaries: bool) -> Iterator[Position]:
    for node in nodes:
        match node:
            case When():
                for block in blocks_of(node):
                    yield from _positions(block, here, boundaries=boundaries)
                continue
            case Workflow():
                yield from _positions(node.body, here.inside(node.name), boundaries=boundaries)
            case Loop():
                inside = here.inside(node.name, 1)
                yield inside
                if not node.settle:  # what an unsettled iteration recorded is not written down yet
                    yield from _positions(node.body, inside, boundaries=False)
            case Stream():
                yield here.inside(node.name, 1)
            case _:
                pass
        if boundaries:
            yield here.past(node.name)


@dataclass(frozen=True)
class _Ran:
    """What ran before a position: a stage that could run again as it did then, or (None) nodes that could not.
    stages: all that may have run in them."""

    stage: Stage | None
    wrote: frozenset[str]
    stages: tuple[Stage, ...]


def needed(workflow: Workflow, position: Position) -> dict[str, Slot[Any]]:
    """The slots that may be read from there on before they are written, and those that making them again reads."""
    needs = _Needs(durable_slots(workflow).values())
    needs.block(workflow.body, set(), cursor_to(position))
    waiting = [slot for slot in needs.found.values() if isinstance(slot.survives, Rebuilt)]
    ran = list(_before(workflow.body, cursor_to(position))) if waiting else []
    while waiting:
        slot = waiting.pop()
        if not isinstance(slot.survives, Rebuilt):
            continue
        place = _rebuilder(slot, ran)
        for read in _reads(ran[place].stage) if place is not None else ():
            if read.name not in needs.found and read.name not in needs.bound:
                needs.found[read.name] = read
                waiting.append(read)
    return needs.found


def rebuilders(workflow: Workflow, position: Position) -> list[Stage]:
    """The stages to run again, in order, when the run is continued there."""
    ran = list(_before(workflow.body, cursor_to(position)))
    slots = [slot for slot in needed(workflow, position).values() if isinstance(slot.survives, Rebuilt)]
    if not slots:
        return []
    places = {_rebuilder(slot, ran) for slot in slots}
    return [stage for place, entry in enumerate(ran) if place in places and (stage := entry.stage) is not None]


def holders(workflow: Workflow, position: Position, slots: Iterable[str]) -> list[tuple[str, Stage]]:
    """The stages, with their paths, that could `release` what these slots hold at that position: of each slot, the
    last one that may have written it."""
    before = {id(stage) for entry in _before(workflow.body, cursor_to(position)) for stage in entry.stages}
    wanted, found = set(slots), dict[str, tuple[str, Stage]]()
    for path, stage in placed(workflow.body, workflow.name):
        if isinstance(stage, Stage) and id(stage) in before and type(stage).release is not Stage.release:
            found |= dict.fromkeys(sorted(written_slots((stage,)) & wanted), (path, stage))
    return list({id(stage): (path, stage) for path, stage in found.values()}.values())


def survival_problems(workflow: Workflow) -> list[Problem]:
    """Rebuilt slots that would not come back as they were: each once."""
    writers: dict[str, set[str]] = {}
    rebuilt = False
    for touch in touches(workflow.body):
        rebuilt = rebuilt or isinstance(touch.slot.survives, Rebuilt)
        if touch.access != "reads":
            writers.setdefault(touch.slot.name, set()).add(touch.by)
    found: dict[str, Problem] = {}
    for position in positions(workflow) if rebuilt else ():
        due = [slot for slot in needed(workflow, position).values() if isinstance(slot.survives, Rebuilt)]
        ran = list(_before(workflow.body, cursor_to(position))) if due else []
        for slot in due:
            name = slot.name
            if isinstance(slot.survives, Rebuilt) and name not in found:
                what = _refusal(slot, slot.survives, ran, writers)
                if what:
                    fix = f"Make it Durable, or Rebuilt by what can run again (a run continued at {position} needs it)"
                    found[name] = Problem(what=what, where=f"slot {name}", fix=fix)
    return list(found.values())


def _refusal(slot: Slot[Any], survives: Rebuilt, ran: list[_Ran], writers: Mapping[str, set[str]]) -> str:
    others = sorted(writers.get(slot.name, set()) - {survives.by})
    if others and not survives.afresh:
        return f"the slot is rebuilt by {survives.by}, but {', '.join(others)} changes it: that would be lost"
    place = _rebuilder(slot, ran)
    if place is None:
        return f"{survives.by}, which rebuilds the slot, stands in a loop or branch that is over when the slot is read"
    since = frozenset[str]().union(*(entry.wrote for entry in ran[place + 1 :]))
    if slot.name in since and not survives.afresh:
        return f"{survives.by}, which rebuilds the slot, is not the last that wrote it"
    stage = ran[place].stage
    assert stage is not None, "a rebuilder is a stage"
    for read in _reads(stage):
        if isinstance(read.survives, Rebuilt) and read.survives.afresh:
            continue
        if read.name in since:
            return f"{survives.by}, which rebuilds the slot, reads {read.name}, which has changed since it ran"
        if read.name in _updates(stage):
            return f"{survives.by}, which rebuilds the slot, reads {read.name} and changes it itself"
    return ""


def _rebuilder(slot: Slot[Any], ran: list[_Ran]) -> int | None:
    assert isinstance(slot.survives, Rebuilt)
    for place in reversed(range(len(ran))):
        stage = ran[place].stage
        if stage is not None and stage.name == slot.survives.by and slot.name in ran[place].wrote:
            return place
    return None


def _reads(stage: Stage | None) -> list[Slot[Any]]:
    return [] if stage is None else [slot for _, declared, slot in slots_of(stage) if declared.access != WRITES]


def closed_by(stage: Stage) -> frozenset[str]:
    """The slots whose values are of no use any more once this stage has run."""
    return frozenset(slot.name for field, _, slot in slots_of(stage) if field in type(stage).closes)


def _is_costly(slot: Slot[Any]) -> bool:
    codec = codec_named(slot.survives.codec) if isinstance(slot.survives, Durable) else None
    return codec is not None and not codec.cheap


def _updates(stage: Stage) -> set[str]:
    return {slot.name for _, declared, slot in slots_of(stage) if declared.access == UPDATES}


def _unrepeatable(node: Node) -> _Ran:
    return _Ran(None, written_slots((node,)), tuple(stages_in((node,))))


def _before(nodes: Iterable[Node], cursor: Cursor) -> Iterator[_Ran]:
    """What ran before the position, in order."""
    if not cursor.target:
        return
    for node in nodes:
        if not holds_name(node, cursor.target):
            yield from _whole(node)
            continue
        match node:
            case When():
                for block in blocks_of(node):
                    if any(holds_name(inner, cursor.target) for inner in block):
                        yield from _before(block, cursor)
                return
            case _ if not cursor.frames:
                yield from _whole(node)
                return
            case Loop():
                yield _unrepeatable(node)
                yield from _before(node.body, cursor.down())
                return
            case Workflow():
                yield from _before(node.body, cursor.down())
                return
            case _:
                yield _unrepeatable(node)
                return


def _whole(node: Node) -> Iterator[_Ran]:
    match node:
        case Stage():
            yield _Ran(node, written_slots((node,)), (node,))
        case Workflow() | Parallel():
            for block in blocks_of(node):
                for inner in block:
                    yield from _whole(inner)
        case _:
            yield _unrepeatable(node)


class _Needs:
    """Walks what is left to run, with the set of slots that are certain to be written by then."""

    def __init__(self, durable: Iterable[Slot[Any]]) -> None:
        self.costly = [slot for slot in durable if _is_costly(slot)]  # every checkpoint with a line holds them
        self.found: dict[str, Slot[Any]] = {}
        self.bound: set[str] = set()  # by the loops around the position, which bind their items again

    def block(self, nodes: Iterable[Node], certain: set[str], cursor: Cursor | None) -> None:
        skipping = cursor if cursor is not None and cursor.target else None
        for node in nodes:
            if skipping is None:
                self.node(node, certain)
            elif holds_name(node, skipping.target):
                self.entered(node, certain, skipping)
                skipping = None

    def entered(self, node: Node, certain: set[str], cursor: Cursor) -> None:
        match node:
            case When():
                for block in blocks_of(node):
                    if any(holds_name(inner, cursor.target) for inner in block):
                        self.block(block, certain, cursor)
            case _ if not cursor.frames:
                pass
            case Loop() | Stream():
                self.again(node, certain, cursor.down())
            case Workflow():
                self.block(node.body, certain, cursor.down())
            case _:
                raise AssertionError("no position lies inside any other node")

    def again(self, loop: Loop | Stream, certain: set[str], cursor: Cursor) -> None:
        """The rest of this iteration and, perhaps, the next ones."""
        self.over(loop)
        bound = certain | ({loop.bind.name} if isinstance(loop.bind, Slot) else set[str]())
        if cursor.target:
            self.bound |= bound - certain
            inside = set(bound)
            self.block(blocks_of(loop)[0], inside, cursor)
            self.until(loop, inside)
        else:
            self.until(loop, bound)
        self.iteration(loop, set(bound))

    def iteration(self, loop: Loop | Stream, certain: set[str]) -> None:
        body, settle = blocks_of(loop)
        self.block(body, certain, None)
        self.until(loop, certain)
        self.block(settle, certain, None)

    def node(self, node: Node, certain: set[str]) -> None:
        match node:
            case Stage():
                for slot in (*_reads(node), *(self.costly if type(node).checkpoints else ())):
                    self.need(slot, certain)
                if node.on_error != "skip":  # a stage that is skipped leaves its slots as they were
                    certain.update(slot.name for _, declared, slot in slots_of(node) if declared.access == WRITES)
                    certain |= closed_by(node)  # of no use behind it
            case Loop() | Stream():
                if isinstance(node.over, Slot):
                    self.need(node.over, certain)
                inside = certain | ({node.bind.name} if isinstance(node.bind, Slot) else set[str]())
                self.iteration(node, inside)
                if isinstance(node.over, Range) and node.over.n > 0:
                    certain.update(inside)
            case When():
                for slot in slots_read(node.condition):
                    self.need(slot, certain)
                after = [set(certain) for _ in blocks_of(node)]
                for block, known in zip(blocks_of(node), after, strict=True):
                    self.block(block, known, None)
                certain.update(set[str].intersection(*after))
            case Parallel(on_error="continue"):  # a branch that fails leaves its slots as they were
                for block in blocks_of(node):
                    self.block(block, set(certain), None)
            case _:
                for block in blocks_of(node):
                    self.block(block, certain, None)

    def over(self, loop: Loop | Stream) -> None:
        if isinstance(loop.over, Slot):
            self.need(loop.over, set())

    def until(self, loop: Loop | Stream, certain: set[str]) -> None:
        if isinstance(loop, Loop) and loop.until is not None:
            for slot in slots_read(loop.until):
                self.need(slot, certain)

    def need(self, slot: Slot[Any], certain: set[str]) -> None:
        if slot.name not in certain:
            self.found.setdefault(slot.name, slot)


def durable_slots(workflow: Workflow) -> dict[str, Slot[Any]]:
    """The slots that checkpoints hold, by name."""
    return {touch.slot.name: touch.slot for touch in touches(workflow.body) if isinstance(touch.slot.survives, Durable)}
