"""Small stages, a port, and a supervised-like workflow to write, check, draw, lower and run."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from crucible.errors import DataError, PortError
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


class Crunch(Stage):
    """Square a number in a process of its own, and use all that a context offers."""

    runs_in: ClassVar = "process"
    checkpoints: ClassVar = True
    number: Reads[int]
    into: Writes[int]
    pid: Writes[int]

    def execute(self, ctx: StageContext) -> None:
        square = ctx.read(self.number) ** 2
        ctx.write(self.into, square)
        ctx.write(self.pid, os.getpid())
        ctx.record_metrics(1, {"square": float(square)})
        ctx.record_result("config", ctx.run.config["key"])
        ctx.record_artifact("plot", Path("plot.svg"))
        ctx.record_checkpoint({"step": 1})
        ctx.emit("training.epoch", {"epoch": 1})


class Append(Stage):
    """Append to a list in place, in a process of its own."""

    runs_in: ClassVar = "process"
    to: Updates[list[int]]

    def execute(self, ctx: StageContext) -> None:
        ctx.read(self.to).append(2)


class Fork(Stage):
    """Leave a child behind, which holds all that this process has open; then end well or die."""

    runs_in: ClassVar = "process"
    note: str
    dies: bool

    def execute(self, ctx: StageContext) -> None:
        del ctx
        if (child := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        Path(self.note).write_text(str(child))
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)


class Break(Stage):
    """Go wrong in a process of its own, in the way that is asked for; `hang` first tells who it is, in a file."""

    runs_in: ClassVar = "process"
    how: str
    note: str = ""
    into: Writes[object] | None = None
    log: ClassVar[list[str]] = []

    def execute(self, ctx: StageContext) -> None:
        match self.how:
            case "abort":
                os.abort()
            case "exit":
                sys.exit(3)
            case "port":
                raise PortError("busy", port="p", adapter="a", retryable=True)
            case "user":
                raise DataError.of("no rows", where="rows.jsonl:1")
            case "file":
                Path("/nowhere/at/all").read_text()
            case "odd error":
                raise RuntimeError(lambda: None)
            case "odd result":
                assert self.into is not None
                ctx.write(self.into, lambda: None)
            case _:
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                Path(self.note + ".part").write_text(f"{os.getpid()} {child.pid}")
                Path(self.note + ".part").rename(self.note)
                time.sleep(60)

    async def rollback(self, ctx: StageContext, error: BaseException) -> None:
        del ctx
        self.log.append(f"undo {self.name} for {type(error).__name__}")


class Multiply(Stage):
    """Multiply a number, note that it did, and record all that a pure stage may."""

    pure: ClassVar = True
    of: Reads[int]
    into: Writes[int]
    by: int
    ran: ClassVar[list[str]] = []

    async def execute(self, ctx: StageContext) -> None:
        self.ran.append(self.name)
        product = ctx.read(self.of) * self.by
        ctx.write(self.into, product)
        ctx.record_metrics(self.by, {self.into.name: product, "nan": float("nan"), "third": 1 / 3})
        ctx.record_result(self.name, {"product": product})


class Undone(Stage):
    """Note what happens to it, and what it wrote."""

    into: Writes[int]
    value: int
    fails: int = 0
    log: ClassVar[list[str]] = []

    async def execute(self, ctx: StageContext) -> None:
        ctx.write(self.into, self.value)
        ctx.record_metrics(self.value, {"tried": 1.0})
        self.log.append(f"run {self.name}")
        if self.log.count(f"run {self.name}") <= self.fails:
            raise ConnectionError(f"{self.name} lost its line")

    async def rollback(self, ctx: StageContext, error: BaseException) -> None:
        self.log.append(f"undo {self.name} {ctx.read(self.into)} for {type(error).__name__}")

    async def release(self, ctx: StageContext) -> None:
        del ctx
        self.log.append(f"free {self.name}")


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
