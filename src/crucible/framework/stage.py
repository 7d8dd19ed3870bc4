"""What is a stage? A named step that declares its ports, slots and options, and does one thing."""

import inspect
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, dataclass_transform

from crucible.errors import Problem
from crucible.framework.context import StageContext
from crucible.framework.declaration import declaration
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
    when the run has them. `runs_in`: `loop` (execute is a coroutine), or `thread` (execute is a plain
    function for work that blocks; a thread cannot be killed).

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

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        declaration(cls)
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
        """Do the work: `async def`, or a plain `def` where `runs_in` is `thread`."""
        raise TypeError(f"{ctx.path}: {type(self).__name__} defines no execute")
