"""How long do stages usually take, and how long at worst? Percentiles in constant memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from crucible.telemetry.event import Event

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.table import Table


class Percentiles:
    """A quantile sketch with a relative error, whatever the values' distribution: DDSketch.

    A value x > 0 is counted in the bucket ceil(log_g(x)), g = (1 + a) / (1 - a), which covers (g^(i-1), g^i]; its
    answer 2 g^i / (g + 1) is within a * x of every x there. Where there would be more than `max_buckets` buckets
    the two lowest become one, so the highest quantiles keep their error longest. Source: Masson, Rim, Lee,
    "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019.

    relative_error: a, in (0, 1). max_buckets: at 0.01 the default spans a factor of 10^17 without loss.
    """

    def __init__(self, *, relative_error: float = 0.01, max_buckets: int = 2048) -> None:
        if not 0 < relative_error < 1 or max_buckets < 2:
            raise ValueError(f"0 < relative_error < 1 and max_buckets > 1; got {relative_error}, {max_buckets}")
        self._gamma = (1 + relative_error) / (1 - relative_error)
        self._log_gamma = math.log(self._gamma)
        self._max_buckets = max_buckets
        self._buckets: dict[int, int] = {}
        self._zeros = 0
        self.count = 0
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value.

        Raises:
            ValueError: if it is neither 0 nor from 1e-300 to 1e300.
        """
        if value != 0 and not 1e-300 <= value <= 1e300:
            raise ValueError(f"a value is 0 or from 1e-300 to 1e300; got {value}")
        self.count += 1
        self.total += value
        if value == 0:
            self._zeros += 1
            return
        index = math.ceil(math.log(value) / self._log_gamma)
        self._buckets[index] = self._buckets.get(index, 0) + 1
        if len(self._buckets) > self._max_buckets:
            lowest, second = sorted(self._buckets)[:2]
            self._buckets[second] += self._buckets.pop(lowest)

    def quantile(self, q: float) -> float:
        """An estimate of the value of rank floor(q (n - 1)) among n sorted ones, from rank 0.

        Raises:
            ValueError: if q is not in [0, 1], or nothing was counted.
        """
        if not 0 <= q <= 1 or not self.count:
            raise ValueError(f"a quantile is from 0 to 1, of at least one value; got {q}, of {self.count}")
        rank = math.floor(q * (self.count - 1))
        seen = self._zeros
        for index in sorted(self._buckets):
            if seen > rank:
                break
            seen += self._buckets[index]
            if seen > rank:
                return 2 * math.exp(index * self._log_gamma) / (self._gamma + 1)
        return 0.0


@dataclass(frozen=True, kw_only=True)
class StageDurations:
    """What one stage took, over all its turns. Seconds."""

    path: str
    count: int
    total: float
    p50: float
    p95: float
    p99: float


class Durations:
    """A handler that keeps p50, p95 and p99 of each stage's duration, to a hundredth of the value.

    Its memory grows with the number of stages in the workflows, not with the turns they take; a stage that failed
    counts too. console: where `close` prints the table; None prints nothing.
    """

    events: ClassVar[tuple[str, ...]] = ("stage.stop", "stage.exception")

    def __init__(self, console: "RichConsole | None" = None) -> None:
        self._console = console
        self._stages: dict[str, Percentiles] = {}

    def __call__(self, event: Event) -> None:
        path = str(event.metadata.get("path", event.metadata.get("stage", "")))
        if event.measurements["duration_ns"]:  # a skipped stage tells none
            self._stages.setdefault(path, Percentiles()).add(event.measurements["duration_ns"] / 1e9)

    def stages(self) -> list[StageDurations]:
        """The stages that took a turn, those that took longest in all first."""
        found = [_durations(path, percentiles) for path, percentiles in self._stages.items()]
        return sorted(found, key=lambda stage: -stage.total)

    def table(self) -> "Table":
        """The stages as a table for a terminal; times in milliseconds."""
        return _table(self.stages())

    def close(self) -> None:
        """Print the table, if there is a console and anything to show."""
        console, self._console = self._console, None
        if console is not None and self._stages:
            console.print(self.table())


def _durations(path: str, seconds: Percentiles) -> StageDurations:
    p50, p95, p99 = (seconds.quantile(q) for q in (0.5, 0.95, 0.99))
    return StageDurations(path=path, count=seconds.count, total=seconds.total, p50=p50, p95=p95, p99=p99)


def _table(stages: Iterable[StageDurations]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for heading in ("turns", "total s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for stage in stages:
        times = (f"{1000 * value:.3g}" for value in (stage.p50, stage.p95, stage.p99))
        table.add_row(stage.path, str(stage.count), f"{stage.total:.2f}", *times)
    return table
