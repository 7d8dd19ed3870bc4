"""What is a stage? A named step that declares its ports, slots and options, and does one thing."""

import inspect
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, dataclass_transform

from crucible.errors import PortError, Problem
from crucible.framework.context import StageContext
from crucible.framework.declaration import declaration
from crucible.framework.slot import READS
from crucible.ports import Port


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class _Declared:
    """Makes every subclass a frozen dataclass whose fields are keyword-only."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        dataclass(frozen=True, kw_only=True)(cls)


class Stage(_Declared):
    """Base of every stage. A subclass is a frozen dataclass without being told.

    Fields annotated `Reads[T]`, `Writes[T]` or `Updates[T]` are slots; every other field is an option and
    holds JSON data. `ports` are the port classes the stage cannot do without, `optional_ports` those it uses
    when the run has them. `runs_in`: `loop` (execute is a coroutine), or for work that blocks a plain function
    in a `thread` (which cannot be killed, so it takes no timeout) or a `process` (which can; it has no ports, its
    slots are pickled there and back, and its class must be importable). `checkpoints`: it may call
    `record_checkpoint`. `pure`: what it writes and records follows from its options and inputs alone, so that it may
    be taken from an earlier run (it has no ports, and writes slots that a cheap codec saves); its code counts as
    changed when the source of its class or of a base has, or, where `version` is declared, when that has. `closes`:
    the fields of the slots that it reads and closes, so that no later checkpoint holds what is in them.

    Every stage can be told, where it is written in a workflow:
    timeout: seconds after which it is cancelled, taken back, and fails with `StageTimeoutError`.
    retry: how many more times it is tried when it fails in a way that `retries` accepts; backoff: seconds before
    the second attempt, doubled each time. What a failed attempt wrote or recorded is forgotten; what it changed in
    place (appended to a list, done to a session) is not: such a stage writes a new value, or undoes it in `rollback`.
    on_error: `halt` the run, or `skip` the stage: its slots stay unwritten, and the result `skipped_stages` says why.

        class Await(Stage, Generic[T]):
            future: Reads[Future[T]]
            into: Writes[T]

            async def execute(self, ctx: StageContext) -> None:
                ctx.write(self.into, await ctx.read(self.future))
    """

    name: str = field(kw_only=False)
    ports: ClassVar[tuple[type[Port], ...]] = ()
    optional_ports: ClassVar[tuple[type[Port], ...]] = ()
    runs_in: ClassVar[Literal["loop", "thread", "process"]] = "loop"
    checkpoints: ClassVar[bool] = False
    pure: ClassVar[bool] = False
    version: ClassVar[str] = ""
    closes: ClassVar[tuple[str, ...]] = ()
    timeout: float | None = None
    retry: int = 0
    backoff: float = 1.0
    on_error: Literal["halt", "skip"] = "halt"

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        slots = declaration(cls).slots
        if wrong := [name for name in cls.closes if name not in slots or slots[name].access != READS]:
            raise TypeError(f"{cls.__name__}.closes names {', '.join(wrong)}, which is no slot that it reads")
        is_coroutine = inspect.iscoroutinefunction(cls.execute)
        if cls.execute is not Stage.execute and is_coroutine != (cls.runs_in == "loop"):
            wanted = "a coroutine (async def)" if cls.runs_in == "loop" else "a plain function (def)"
            raise TypeError(f"{cls.__name__}.execute must be {wanted}, since it runs in the {cls.runs_in}")

    def check(self) -> Iterable[Problem]:
        """What is wrong with the options, found at plan time. `where` may be left empty."""
        return ()

    async def validate(self, ctx: StageContext) -> None:
        """Look at the slots' values before `execute`; raise a `UserError` if they will not do."""

    def execute(self, ctx: StageContext) -> Awaitable[None] | None:
        """Do the work: `async def`, or a plain `def` where `runs_in` is `thread` or `process`."""
        raise TypeError(f"{ctx.path}: {type(self).__name__} defines no execute")

    def retries(self, error: Exception) -> bool:
        """Whether a further attempt may help: a port said `retryable`, a connection failed, or the time was up."""
        if isinstance(error, PortError):
            return error.retryable
        return isinstance(error, ConnectionError | TimeoutError)

    async def rollback(self, ctx: StageContext, error: BaseException) -> None:
        """Undo the stage's effects outside of the run: it, or a later stage, has failed.

        Called newest first, and only for what was done since the last point that the run can be continued from.
        It never deletes a checkpoint.
        """

    async def release(self, ctx: StageContext) -> None:
        """Free what the stage holds open (a session, a server): the run ends without reaching its end."""


class StageTimeoutError(TimeoutError):
    """A stage took longer than its timeout; it was cancelled and taken back."""
