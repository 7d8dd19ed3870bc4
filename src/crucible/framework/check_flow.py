"""Does every value reach its reader? What is read unwritten, what a kill would lose, what pipelining would change."""

from collections.abc import Iterable, Iterator
from inspect import isclass
from typing import Any

from crucible.errors import Problem, did_you_mean
from crucible.framework.codec import codec_named, registered_codecs
from crucible.framework.conditions import Condition, Every, parts_of, slots_read
from crucible.framework.declaration import slots_of
from crucible.framework.nodes import (
    Loop,
    Node,
    Parallel,
    Range,
    Stream,
    When,
    Workflow,
    blocks_of,
    path_of,
    placed,
    stages_in,
)
from crucible.framework.slot import READS, UPDATES, WRITES, Durable, Rebuilt, Slot
from crucible.framework.stage import Stage
from crucible.framework.versioned import Versioned
from crucible.framework.workflow import read_slots, touches, written_slots


def unwritten_problems(workflow: Workflow) -> list[Problem]:
    """Slots read where it is not certain that something was written: each once, at its first such reader."""
    flow = _Flow(workflow)
    flow.block(workflow.body, workflow.name, set(), in_loop=False)
    return flow.problems


class _Flow:
    """Follows the nodes in order with the set of slots that are certain to hold a value."""

    def __init__(self, workflow: Workflow) -> None:
        self.problems: list[Problem] = []
        self.writers: dict[str, list[str]] = {}
        for touch in touches(workflow.body):
            if touch.access == WRITES:
                self.writers.setdefault(touch.slot.name, []).append(touch.by)

    def block(self, nodes: Iterable[Node], parent: str, certain: set[str], *, in_loop: bool) -> None:
        for node in nodes:
            path = path_of(node, parent)
            match node:
                case Stage():
                    used = [(declared.access, slot) for _, declared, slot in slots_of(node)]
                    self.need((slot for access, slot in used if access != WRITES), path, certain)
                    if node.on_error != "skip":
                        certain.update(slot.name for access, slot in used if access == WRITES)
                case Loop() | Stream():
                    self.loop(node, path, certain)
                case When() | Parallel():
                    if isinstance(node, When):
                        self.condition(node.condition, path, certain, in_loop=in_loop)
                    after = [set(certain) for _ in blocks_of(node)]
                    for branch, known in zip(blocks_of(node), after, strict=True):
                        self.block(branch, path, known, in_loop=in_loop)
                    sure = isinstance(node, Parallel) and node.on_error == "halt"
                    both = set[str].union if sure else set[str].intersection
                    certain.update(both(*after) if after else ())
                case _:
                    for block in blocks_of(node):
                        self.block(block, path, certain, in_loop=in_loop)

    def loop(self, loop: Loop | Stream, path: str, certain: set[str]) -> None:
        if isinstance(loop.over, Slot):
            self.need((loop.over,), path, certain)
        inside = certain | ({loop.bind.name} if isinstance(loop.bind, Slot) else set[str]())
        body, settle = blocks_of(loop)
        self.block(body, path, inside, in_loop=True)
        if isinstance(loop, Loop) and loop.until is not None:
            self.condition(loop.until, path, inside, in_loop=True)
        self.block(settle, path, inside, in_loop=True)
        if isinstance(loop.over, Range) and loop.over.n > 0:  # any other loop may run no iteration at all
            certain.update(inside)

    def condition(self, condition: Condition, path: str, certain: set[str], *, in_loop: bool) -> None:
        self.need(slots_read(condition), path, certain)
        if not in_loop and any(isinstance(part, Every) and part.of is None for part in parts_of(condition)):
            what = "Every without a slot counts a loop's iterations, and there is no loop here"
            self.problems.append(Problem(what=what, where=path, fix="Give it the slot to count: Every(n, of=slot)"))

    def need(self, slots: Iterable[Slot[Any]], path: str, certain: set[str]) -> None:
        for slot in slots:
            if slot.name in certain:
                continue
            certain.add(slot.name)
            writers = self.writers.get(slot.name)
            if writers:
                fix = f"Written by {', '.join(dict.fromkeys(writers))}, later or only sometimes: write it before this"
            else:
                fix = "Nothing writes it: add a stage that does"
            what = "the slot is read where it may hold nothing"
            self.problems.append(Problem(what=what, where=path, given=slot.name, fix=fix))


def slot_problems(workflow: Workflow) -> Iterator[Problem]:
    """Slots that are defined twice, differently; and slots that would not survive a kill."""
    names = {node.name for _, node in placed(workflow.body, "") if isinstance(node, Stage | Loop | Stream)}
    found: dict[str, Slot[Any]] = {}
    writers: dict[str, set[str]] = {}
    for touch in touches(workflow.body):
        slot = touch.slot
        if touch.access != READS:
            writers.setdefault(slot.name, set()).add(touch.by)
        first = found.setdefault(slot.name, slot)
        if first != slot:
            fix = f"It is {first} elsewhere: define a slot once"
            yield Problem(what="the slot is defined twice, differently", where=touch.by, given=repr(slot), fix=fix)
    for name, slot in found.items():
        where = f"slot {name}"
        match slot.survives:
            case Durable(codec="") | None:
                fix = "Say Durable(codec) or Rebuilt(by=stage)"
                yield Problem(what="the slot does not say how it survives a kill", where=where, fix=fix)
            case Durable(codec=codec):
                found_codec = codec_named(codec)
                if found_codec is None:
                    fix = did_you_mean(codec, registered_codecs())
                    yield Problem(what="no codec has this name", where=where, given=codec, fix=fix)
                elif reason := found_codec.refuses(slot):
                    yield Problem(what=f"codec {codec} cannot save a {slot.type_name}: {reason}", where=where)
            case Rebuilt(by=by) if by not in writers.get(name, ()):
                what = "the slot is rebuilt by a node that " + (
                    "does not write it" if by in names else "does not exist"
                )
                fix = f"Written by: {', '.join(sorted(writers.get(name, ()))) or 'nothing'}"
                yield Problem(what=what, where=where, given=by, fix=fix)
            case _:
                pass
        if not name:
            yield Problem(what="a slot has an empty name", given=repr(slot))


def depth_problems(loop: Loop | Stream, path: str) -> Iterator[Problem]:
    """What would let the loop's depth, or the stream's timing, change a result.

    Settle runs late, so body must not see its effects, and settle must see what the body left: values are
    kept for it, but what a handle stands for cannot be, so settle stays away from slots the body updates.
    A stream's produce and consume stand to each other as body and settle.
    """
    body, settle = blocks_of(loop)
    early, late = ("produce", "consume") if isinstance(loop, Stream) else ("body", "settle")
    bound = {loop.bind.name} if isinstance(loop.bind, Slot) else set[str]()
    condition = loop.until if isinstance(loop, Loop) else None
    until = {slot.name for slot in slots_read(condition)} if condition is not None else set[str]()
    over = {loop.over.name} if isinstance(loop.over, Slot) else set[str]()
    written, settled = written_slots(body) | bound, written_slots(settle)
    for name in sorted(written & settled):
        what = f"{early} and {late} both write the slot"
        yield Problem(what=what, where=path, given=name, fix="Write it in one of them")
    for name in sorted(over & (written | settled)):
        fix = "Write another slot, which a loop around this one runs over"
        what = "the loop changes the slot that it runs over, so a continued run would have other items before it"
        yield Problem(what=what, where=path, given=name, fix=fix)
    back = {slot.name for slot in loop.feedback} if isinstance(loop, Stream) else set[str]()
    if isinstance(loop, Stream):
        yield from _feedback_problems(loop, path)
    for name in sorted((read_slots(body) | until) & settled - written - over - back):
        fix = f"Move the writer to the {early}, or the reader to {late}"
        what = f"the {early} or until reads a slot that {late} writes, and {late} runs iterations later"
        yield Problem(what=what, where=path, given=name, fix=fix)
    handles = {t.slot.name for t in touches(body) if t.access == UPDATES and t.slot.type not in _PLAIN}
    for name in sorted(handles & read_slots(settle) - settled):
        what = f"{late} reads a slot that the {early} updates in place, and would see a later iteration's"
        yield Problem(what=what, where=path, given=name, fix=f"Move that stage to the {early}")


def _feedback_problems(stream: Stream, path: str) -> Iterator[Problem]:
    """Slots that flow back from consume to produce, and would not be what they are declared to be."""
    settled = written_slots(stream.consume)
    for slot in stream.feedback:
        if slot.name not in settled:
            yield Problem(what="nothing in consume writes the slot that flows back", where=path, given=slot.name)
        if not isinstance(slot.survives, Durable):
            what = "a slot that flows back must be durable: a continued run needs the versions it had"
            yield Problem(what=what, where=path, given=slot.name, fix="Say Durable(codec)")
        if not (isclass(slot.type) and issubclass(slot.type, Versioned)):
            what = f"a slot that flows back holds a Versioned, and {slot.type_name} is none"
            fix = "Derive its type from crucible.framework.Versioned"
            yield Problem(what=what, where=path, given=slot.name, fix=fix)


_PLAIN = (int, float, bool, str)
"""Types whose values cannot change in place."""


def parallel_problems(node: Parallel, path: str) -> Iterator[Problem]:
    """What two branches would do to each other: one writes what the other touches."""
    written = [written_slots(branch) | _bound(branch) for branch in node.branches]
    touched = [{touch.slot.name for touch in touches(branch)} for branch in node.branches]
    told: set[str] = set()
    for number, names in enumerate(written):
        others = set[str]().union(*(touched[other] for other in range(len(touched)) if other != number))
        for name in sorted(names & others - told):
            told.add(name)
            what = "one branch writes a slot that another branch touches: the order between them would matter"
            yield Problem(what=what, where=path, given=name, fix="Give each branch slots of its own")


def _bound(nodes: Iterable[Node]) -> set[str]:
    binds = (node.bind for _, node in placed(nodes, "") if isinstance(node, Loop | Stream))
    return {bind.name for bind in binds if isinstance(bind, Slot)}


def checkpoint_problems(
    nodes: Iterable[Node], parent: str, *, why: str = "", settles: bool = False
) -> Iterator[Problem]:
    """Stages that may ask for a checkpoint where a run could not be continued.

    why: what stands in the way here; settles: whether an enclosing loop settles, so that a loop inside it is in one
    unsettled iteration.
    """
    for node in nodes:
        path = path_of(node, parent)
        match node:
            case Stage() if type(node).checkpoints and why:
                fix = "Move it to where nothing else is under way"
                yield Problem(what=f"a checkpoint cannot be taken {why}", where=path, fix=fix)
            case Loop():
                inner = why or ("in a loop inside one that settles its iterations later" if settles else "")
                yield from checkpoint_problems(node.body, path, why=inner, settles=settles or bool(node.settle))
                late = why or "in settle, when later iterations have begun"
                yield from checkpoint_problems(node.settle, path, why=late, settles=True)
            case Parallel():
                for branch in node.branches:
                    yield from checkpoint_problems(branch, path, why=why or "in a branch beside others", settles=True)
            case Stream():
                early = why or "in produce, ahead of the consumer: take it in consume"
                yield from checkpoint_problems(node.produce, path, why=early, settles=True)
                inner = why or ("in a stream inside a loop that settles later" if settles else "")
                yield from checkpoint_problems(node.consume, path, why=inner, settles=True)
                yield from _ahead_problems(node, path)
            case _:
                for block in blocks_of(node):
                    yield from checkpoint_problems(block, path, why=why, settles=settles)


def _ahead_problems(stream: Stream, path: str) -> Iterator[Problem]:
    """A checkpoint in consume holds what produce left for that item; what a handle stands for is ahead by then."""
    if not any(type(stage).checkpoints for stage in stages_in(stream.consume)):
        return
    for touch in touches(stream.produce):
        if touch.access != READS and isinstance(touch.slot.survives, Durable) and touch.slot.type not in _PLAIN:
            what = "produce changes a durable slot that is no plain value, so a checkpoint in consume would be ahead"
            yield Problem(what=what, where=path, given=touch.slot.name, fix="Change it in consume")
