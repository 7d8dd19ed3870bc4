"""Workflows of every shape, drawn from a seed: nested, looped, pipelined, streamed, parallel, with rebuilt slots."""

import asyncio
import random
from typing import ClassVar

from toys import Add, Copy, Log, Put, slot

from crucible.framework import (
    Compare,
    Condition,
    Every,
    Loop,
    Node,
    Parallel,
    Range,
    Reads,
    Rebuilt,
    Slot,
    Stage,
    StageContext,
    Stream,
    Updates,
    When,
    Workflow,
    Writes,
)

NUMBERS = {name: slot(name, int) for name in "abcdef"}
"""Durable slots; every workflow begins by writing them."""


class FailsOnOdd(Stage):
    """Changes a number, then fails where another is odd: skipped, it must leave nothing."""

    to: Updates[int]
    on: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        await asyncio.sleep(0)
        ctx.write(self.to, ctx.read(self.to) + 7)
        ctx.record_metrics(0, {f"tried {self.name}": float(ctx.read(self.on))})
        if ctx.read(self.on) % 2:
            raise ConnectionError("odd")


class MakeRows(Stage):
    """A list that follows from a number."""

    of: Reads[int]
    into: Writes[list]

    async def execute(self, ctx: StageContext) -> None:
        number = ctx.read(self.of)
        ctx.write(self.into, [number % 5 + place for place in range(number % 3 + 1)])


class SumRows(Stage):
    """A number that depends on the list and on itself."""

    of: Reads[list]
    to: Updates[int]

    async def execute(self, ctx: StageContext) -> None:
        await asyncio.sleep(0)
        ctx.write(self.to, (ctx.read(self.to) * 3 + sum(ctx.read(self.of))) % 10007)


class Keep(Stage):
    """Asks for a checkpoint with a line, one under a name that is used again, one without a line; or records."""

    checkpoints: ClassVar = True
    of: Reads[int]
    how: int

    async def execute(self, ctx: StageContext) -> None:
        match self.how:
            case 0:
                ctx.record_checkpoint({"step": ctx.read(self.of)})
            case 1:
                ctx.record_checkpoint({"name": "latest", "step": ctx.read(self.of)})
            case 2:
                ctx.record_checkpoint(None)
            case _:
                ctx.record_result(self.name, ctx.read(self.of))


class Drawn:
    """Draws the nodes of one workflow. A pool is the names of the numbers that a part may touch."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._count = 0
        self._rows: list[Slot[list]] = []

    def workflow(self) -> Workflow:
        starts = [Put(f"start {name}", into=number, value=1) for name, number in NUMBERS.items()]
        body = [node for _ in range(self.chance.randrange(2, 5)) for node in self._nodes(3, "abcdef", "abcdef")]
        return Workflow("w", body=[*starts, *body, Log("end", step=NUMBERS["a"], value=NUMBERS["b"])])

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _one(self, pool: str) -> Slot[int]:
        return NUMBERS[self.chance.choice(pool)]

    def _condition(self, pool: str) -> Condition:
        if self.chance.random() < 0.5:
            return Every(2, of=self._one(pool))
        return Compare(self._one(pool), self.chance.choice([">", "<"]), self.chance.randrange(8))

    def _stage(self, pool: str, seen: str) -> Stage:
        """seen: what it may read, if that is more than what it may change."""
        match self.chance.randrange(8):
            case 0 | 1:
                return Add(self._name("add"), to=self._one(pool), other=self._one(seen))
            case 2:
                return Put(self._name("put"), into=self._one(pool), value=self.chance.randrange(5))
            case 3:
                return Log(self._name("log"), step=self._one(seen), value=self._one(seen))
            case 4:
                return Keep(self._name("keep"), of=self._one(seen), how=self.chance.randrange(4))
            case 5:
                return FailsOnOdd(self._name("fail"), to=self._one(pool), on=self._one(seen), on_error="skip")
            case 6 if self._rows:
                return SumRows(self._name("sum"), of=self.chance.choice(self._rows), to=self._one(pool))
            case _:
                return Copy(self._name("copy"), of=self._one(seen), into=self._one(pool))

    def _block(self, depth: int, pool: str, seen: str) -> list[Node]:
        return [node for _ in range(self.chance.randrange(1, 4)) for node in self._nodes(depth, pool, seen)]

    def _nodes(self, depth: int, pool: str, seen: str) -> list[Node]:
        kind = self.chance.random()
        if depth == 0 or kind < 0.5:
            return [self._stage(pool, seen)]
        if kind < 0.58:
            otherwise = self._block(depth - 1, pool, seen) if self.chance.random() < 0.5 else ()
            return [When(self._condition(seen), self._block(depth - 1, pool, seen), otherwise=otherwise)]
        if kind < 0.66:
            return [Workflow(self._name("inner"), body=self._block(depth - 1, pool, seen))]
        if kind < 0.72:
            name = self._name("make")
            self._rows = [*self._rows, Slot(self._name("rows"), list, Rebuilt(by=name))]
            return [MakeRows(name, of=self._one(seen), into=self._rows[-1])]
        if kind < 0.86 and len(pool) > 1:
            cut = self.chance.randrange(1, len(pool))
            both = (pool[:cut], pool[cut:])
            return [self._parallel(depth, *both) if kind < 0.78 else self._stream(depth, pool, *both)]
        return [self._loop(depth, pool, seen)]

    def _parallel(self, depth: int, left: str, right: str) -> Node:
        branches = [self._block(depth - 1, part, part) for part in (left, right)]
        return Parallel(self._name("parallel"), branches=branches, on_error=self.chance.choice(["halt", "continue"]))

    def _stream(self, depth: int, pool: str, made: str, used: str) -> Node:
        name = self._name("stream")
        item = Slot(self._name("item"), int, Rebuilt(by=name))
        produce = [Copy(self._name("first"), of=item, into=self._one(made)), *self._block(depth - 1, made, made)]
        return Stream(
            name,
            over=Range(self.chance.randrange(1, 4)),
            bind=item,
            capacity=self.chance.randrange(1, 4),
            produce=produce,
            consume=self._block(depth - 1, used, pool),
        )

    def _loop(self, depth: int, pool: str, seen: str) -> Node:
        name, known = self._name("loop"), self._rows
        item = Slot(self._name("item"), int, Rebuilt(by=name)) if self.chance.random() < 0.6 else None
        plain = self.chance.random() < 0.7 or not self._rows
        over = Range(self.chance.randrange(1, 4)) if plain else self.chance.choice(self._rows)
        pipelined = self.chance.random() < 0.5 and len(pool) > 1
        cut = self.chance.randrange(1, len(pool)) if pipelined else len(pool)
        inside, outside = pool[:cut], pool[cut:]
        body: list[Node] = [Add(self._name("use"), to=self._one(inside), other=item)] if item else []
        body += self._block(depth - 1, inside, inside if pipelined else seen)
        settle = [self._stage(outside, self.chance.choice([outside, pool])) for _ in range(2)] if pipelined else []
        until = self._condition(inside) if self.chance.random() < 0.3 else None
        ahead = self.chance.randrange(3) if pipelined else 0
        if self.chance.random() < 0.7:
            self._rows = known
        return Loop(name, over=over, bind=item, body=body, settle=settle, depth=ahead, until=until)
