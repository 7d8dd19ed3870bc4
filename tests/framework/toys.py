"""Small stages, a port, and a supervised-like workflow to write, check, draw, lower and run."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Generic, TypeVar

from crucible.framework import (
    Durable,
    Every,
    Loop,
    Node,
    Range,
    Reads,
    Rebuilt,
    Run,
    RunResult,
    Slot,
    Stage,
    StageContext,
    Updates,
    When,
    Workflow,
    Writes,
    execute,
)
from crucible.ports import Port
from crucible.ports.future import Future
from crucible.telemetry import Bus

T = TypeVar("T")


def slot(name: str, kind: type[T]) -> Slot[T]:
    return Slot(name, kind, Durable("json"))


class Engine(Port):
    """A backend that squares numbers on a thread, and notes what it was asked in which order."""

    port_name: ClassVar[str] = "engine"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._pool = ThreadPoolExecutor(1)

    def square(self, number: int) -> Future[int]:
        self.asked.append(f"submit {number}")
        return Future(self._pool.submit(lambda: number * number))

    def close(self) -> None:
        self._pool.shutdown()


class Put(Stage, Generic[T]):
    """Write a constant."""

    into: Writes[T]
    value: Any

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, self.value)


class Add(Stage):
    """Add a constant, or another slot's value."""

    to: Updates[int]
    other: Reads[int] | None = None
    amount: int = 1

    async def execute(self, ctx: StageContext) -> None:
        more = self.amount if self.other is None else ctx.read(self.other)
        ctx.write(self.to, ctx.read(self.to) + more)


class Submit(Stage):
    """Ask the engine for a square."""

    ports: ClassVar = (Engine,)
    number: Reads[int]
    into: Writes[Future[int]]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, ctx.port(Engine).square(ctx.read(self.number)))


class Await(Stage, Generic[T]):
    """Wait for a future."""

    future: Reads[Future[T]]
    into: Writes[T]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, await ctx.read(self.future))


class Log(Stage):
    """Record a value under its slot's name, at the step."""

    step: Reads[int]
    value: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_metrics(ctx.read(self.step), {self.value.name: float(ctx.read(self.value))})


class Copy(Stage):
    """Write what another slot holds."""

    of: Reads[int]
    into: Writes[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, ctx.read(self.of))


class Save(Stage):
    """Record a checkpoint of the step."""

    checkpoints: ClassVar = True
    step: Reads[int]

    async def execute(self, ctx: StageContext) -> None:
        ctx.record_checkpoint({"step": ctx.read(self.step)})


class Fail(Stage):
    """Raise."""

    async def execute(self, ctx: StageContext) -> None:
        raise RuntimeError(f"{ctx.stage} failed")


class Sleep(Stage):
    """Wait until cancelled."""

    async def execute(self, ctx: StageContext) -> None:
        del ctx
        await asyncio.sleep(3600)


STAGES: dict[str, type[Stage]] = {c.__name__: c for c in (Put, Add, Submit, Await, Log, Save, Fail, Sleep)}

epoch = Slot("epoch", int, Rebuilt(by="epochs"))
rows = Slot("rows", list[int], Rebuilt(by="load"))
row = Slot("row", int, Rebuilt(by="batches"))
future = Slot("future", Future[int], Rebuilt(by="submit"))
square = Slot("square", int, Rebuilt(by="await"))
step = slot("step", int)
total = slot("total", int)


def supervised(
    *, epochs: int = 2, data: Sequence[int] = (1, 2, 3), depth: int = 0, save_every: int = 2, **loop: Any
) -> Workflow:
    """Load; for every epoch and row: submit, count, save now and then; await and log behind."""
    batches = Loop(
        "batches",
        over=rows,
        bind=row,
        body=[
            Submit("submit", number=row, into=future),
            Add("count", to=step),
            When(Every(save_every, of=step), [Save("save", step=step)]),
        ],
        settle=[
            Await("await", future=future, into=square),
            Add("sum", to=total, other=square),
            Log("log", step=step, value=total),
        ],
        depth=depth,
        **loop,
    )
    return Workflow(
        "supervised",
        description="like sl_basic",
        body=[
            Put("load", into=rows, value=list(data)),
            Put("start", into=step, value=0),
            Put("zero", into=total, value=0),
            Loop("epochs", over=Range(epochs), bind=epoch, body=[batches]),
            Save("save_final", step=step),
        ],
    )


async def run_nodes(*nodes: Node, ports: dict[str, Port] | None = None, bus: Bus | None = None) -> RunResult:
    """Run nodes as a workflow called w."""
    return await execute(Workflow("w", body=nodes), Run(run_id="r"), ports or {}, telemetry=bus or Bus())
