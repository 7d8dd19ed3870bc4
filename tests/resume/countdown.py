"""A small workflow that is in no recipe: two loops, a pipelined one, and slots of both kinds."""

import time
from collections.abc import Sequence
from typing import ClassVar

from crucible.framework import (
    Durable,
    Every,
    Loop,
    Range,
    Reads,
    Rebuilt,
    Slot,
    Stage,
    StageContext,
    Updates,
    When,
    Workflow,
    Writes,
)


class Draw(Stage):
    """Write some numbers."""

    into: Writes[Sequence[int]]
    total: Writes[dict[str, int]]
    count: Writes[int]
    size: int

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, [n * n for n in range(self.size)])
        ctx.write(self.total, {"sum": 0})
        ctx.write(self.count, 0)


class Count(Stage):
    """Go to the next number."""

    count: Updates[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.count, ctx.read(self.count) + 1)


class Keep(Stage):
    """Ask for a checkpoint."""

    checkpoints: ClassVar = True
    count: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_checkpoint({"name": f"count-{ctx.read(self.count)}", "step": ctx.read(self.count)})


class Add(Stage):
    """Add the number to the total, late, and record it."""

    number: Reads[int]
    count: Reads[int]
    total: Updates[dict[str, int]]

    async def execute(self, ctx: StageContext) -> None:
        time.sleep(0.002)
        total = {"sum": ctx.read(self.total)["sum"] + ctx.read(self.number)}
        ctx.write(self.total, total)
        ctx.record_metrics(ctx.read(self.count), {"sum": float(total["sum"])})


NUMBERS = Slot[Sequence[int]]("numbers", Sequence, Rebuilt(by="draw"))
NUMBER = Slot("number", int, Rebuilt(by="numbers"))
TOTAL = Slot[dict[str, int]]("total", dict, Durable("json"))
COUNT = Slot("count", int, Durable("json"))


def countdown(*, rounds: int = 6, size: int = 25, depth: int = 2, save_every: int = 7) -> Workflow:
    """Go `rounds` times through `size` numbers, adding them up `depth` behind."""
    numbers = Loop(
        "numbers",
        over=NUMBERS,
        bind=NUMBER,
        body=[Count("advance", count=COUNT), When(Every(save_every, of=COUNT), [Keep("keep", count=COUNT)])],
        settle=[Add("add", number=NUMBER, count=COUNT, total=TOTAL)],
        depth=depth,
    )
    return Workflow(
        "countdown",
        body=[
            Draw("draw", into=NUMBERS, total=TOTAL, count=COUNT, size=size),
            Loop("rounds", over=Range(rounds), body=[numbers]),
            Keep("keep_last", count=COUNT),
        ],
    )
