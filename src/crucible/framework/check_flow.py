"""Does every value reach its reader? What is read unwritten, what a kill would lose, what pipelining would change."""

from collections.abc import Iterable, Iterator
from typing import Any

from crucible.errors import Problem
from crucible.framework.conditions import Condition, Every, parts_of, slots_read
from crucible.framework.declaration import slots_of
from crucible.framework.nodes import Loop, Node, Parallel, Range, When, Workflow, blocks_of, path_of, placed
from crucible.framework.slot import READS, UPDATES, WRITES, Durable, Rebuilt, Slot
from crucible.framework.stage import Stage
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
                    certain.update(slot.name for access, slot in used if access == WRITES)
                case Loop():
                    self.loop(node, path, certain)
                case When() | Parallel():
                    if isinstance(node, When):
                        self.condition(node.condition, path, certain, in_loop=in_loop)
                    after = [set(certain) for _ in blocks_of(node)]
                    for branch, known in zip(blocks_of(node), after, strict=True):
                        self.block(branch, path, known, in_loop=in_loop)
                    both = set[str].intersection if isinstance(node, When) else set[str].union
                    certain.update(both(*after) if after else ())
                case _:
                    for block in blocks_of(node):
                        self.block(block, path, certain, in_loop=in_loop)

    def loop(self, loop: Loop, path: str, certain: set[str]) -> None:
        if isinstance(loop.over, Slot):
            self.need((loop.over,), path, certain)
        inside = certain | ({loop.bind.name} if isinstance(loop.bind, Slot) else set[str]())
        self.block(loop.body, path, inside, in_loop=True)
        if loop.until is not None:
            self.condition(loop.until, path, inside, in_loop=True)
        self.block(loop.settle, path, inside, in_loop=True)
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
    names = {node.name for _, node in placed(workflow.body, "") if isinstance(node, Stage | Loop)}
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


def depth_problems(loop: Loop, path: str) -> Iterator[Problem]:
    """What would let the loop's depth change a result.

    Settle runs late, so body must not see its effects, and settle must see what the body left: values are
    kept for it, but what a handle stands for cannot be, so settle stays away from slots the body updates.
    """
    bound = {loop.bind.name} if isinstance(loop.bind, Slot) else set[str]()
    until = {slot.name for slot in slots_read(loop.until)} if loop.until is not None else set[str]()
    over = {loop.over.name} if isinstance(loop.over, Slot) else set[str]()
    written, settled = written_slots(loop.body) | bound, written_slots(loop.settle)
    for name in sorted(written & settled):
        yield Problem(what="body and settle both write the slot", where=path, given=name, fix="Write it in one of them")
    for name in sorted((read_slots(loop.body) | until | over) & settled - written):
        fix = "Move the writer to the body, or the reader to settle"
        what = "the body or until reads a slot that settle writes, and settle runs iterations later"
        yield Problem(what=what, where=path, given=name, fix=fix)
    handles = {t.slot.name for t in touches(loop.body) if t.access == UPDATES and t.slot.type not in _PLAIN}
    for name in sorted(handles & read_slots(loop.settle) - settled):
        what = "settle reads a slot that the body updates in place, and would see a later iteration's"
        yield Problem(what=what, where=path, given=name, fix="Move that stage to the body")


_PLAIN = (int, float, bool, str)
"""Types whose values cannot change in place."""
