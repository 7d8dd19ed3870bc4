"""How much may a grader use before it is ended?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from crucible.errors import ConfigError, Problem


@dataclass(frozen=True, kw_only=True)
class GraderLimits:
    """What one grading may use.

    cpu_seconds: of CPU time, whatever else the machine does; beyond it the verdict is `timed_out`. wall_seconds: on
    the clock, the last resort against a grader that waits without computing (None: 60 and ten times `cpu_seconds`,
    so that a loaded machine does not reach it); its verdict is not repeatable. memory_mib: of address space of its
    process; beyond it an allocation fails. processes: how many it may have started at a time.

    Raises:
        ConfigError: if a limit is not above zero.
    """

    cpu_seconds: float = 10.0
    wall_seconds: float | None = None
    memory_mib: int = 2048
    processes: int = 32

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError(problems)

    @property
    def wall(self) -> float:
        """The limit on the clock, in seconds."""
        return 60.0 + 10.0 * self.cpu_seconds if self.wall_seconds is None else self.wall_seconds

    def _problems(self) -> Iterable[Problem]:
        for name in ("cpu_seconds", "wall_seconds", "memory_mib", "processes"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                yield Problem(what="a grader's limit must be above zero", where=name, given=repr(value))
        if self.wall < self.cpu_seconds:
            yield Problem(
                what="the limit on the clock is below that on CPU time, and is meant as the last resort behind it",
                where="wall_seconds",
                given=repr(self.wall_seconds),
                fix=f"leave it out, or give more than {self.cpu_seconds:g}",
            )
