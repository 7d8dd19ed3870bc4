"""How do two runs differ? Their configs with the origin of each value, their outcomes, their curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from crucible.errors import MissingExtraError
from crucible.runtime.curve import smoothed
from crucible.store.records import RunContents

Curve: TypeAlias = Sequence[tuple[int, float]]
"""(step, value), in the order recorded."""

_FIRST = ("loss", "reward/mean", "eval/nll")
_BESIDE_THE_POINT = frozenset({"epoch", "learning_rate", "rows", "rows_dropped", "rows_truncated", "tokens"})


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One config key that the runs do not share the value of; None for a run that lacks the key."""

    key: str
    a: Mapping[str, Any] | None
    b: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs. differences: of their configs, by key; equal: how many keys agree. outcomes: (name, of a, of b) of
    the numbers both ended with. curves: metric to (a's, b's), of the metrics that either recorded."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    equal: int
    outcomes: tuple[tuple[str, float | None, float | None], ...]
    curves: Mapping[str, tuple[Curve, Curve]]


def compare(a: RunContents, b: RunContents, *, metrics: Sequence[str] = ()) -> Comparison:
    """Compare two runs. metrics: whose curves; if empty, the loss, the reward and every evaluation that either run
    recorded."""
    keys = sorted({*a.run.config, *b.run.config})
    differences = [Difference(key=key, a=a.run.config.get(key), b=b.run.config.get(key)) for key in keys]
    differing = tuple(one for one in differences if not _agree(one))
    wanted = metrics or _interesting(a, b)
    return Comparison(
        a=a.run.name,
        b=b.run.name,
        differences=differing,
        equal=len(keys) - len(differing),
        outcomes=tuple(_outcomes(a, b)),
        curves={name: (curve(a, name), curve(b, name)) for name in wanted},
    )


def curve(contents: RunContents, metric: str) -> list[tuple[int, float]]:
    """(step, value) of one metric of a run."""
    return [(line.step, line.values[metric]) for line in contents.metrics if metric in line.values]


def drawable(points: Curve, *, most: int = 1000) -> list[tuple[int, float]]:
    """The finite values; of more than `most` the means of that many even parts, each at its first step."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    size = -(-len(finite) // most)
    parts = (finite[start : start + size] for start in range(0, len(finite), max(1, size)))
    return [(part[0][0], sum(value for _, value in part) / len(part)) for part in parts]


def terminal_curves(comparison: Comparison, *, width: int) -> str:
    """Each metric's two curves, side by side on one scale; empty when no run recorded two points of any.

    Raises:
        MissingExtraError: if uniplot is not installed.
    """
    blocks = [_pair(name, *pair, comparison, width) for name, pair in comparison.curves.items()]
    return "\n\n".join(block for block in blocks if block)


def _pair(metric: str, a: Curve, b: Curve, comparison: Comparison, width: int) -> str:
    a, b = drawable(a), drawable(b)
    both = [*a, *b]
    if max(len(a), len(b)) < 2:
        return ""
    steps, values = [step for step, _ in both], [value for _, value in both]
    scale = {
        "x_min": min(steps),
        "x_max": max(max(steps), min(steps) + 1),
        "y_min": min(values),
        "y_max": max(values) if max(values) > min(values) else min(values) + 1.0,
    }
    half = max(20, width // 2 - 12)
    left = _plot(a, title=f"{metric} · {comparison.a}", width=half, scale=scale)
    right = _plot(b, title=f"{metric} · {comparison.b}", width=half, scale=scale)
    wide = max((len(line) for line in left), default=0) + 2
    rows = max(len(left), len(right))
    padded = zip(left + [""] * (rows - len(left)), right + [""] * (rows - len(right)), strict=True)
    return "\n".join(f"{one:<{wide}}{other}".rstrip() for one, other in padded)


def _plot(points: Curve, *, title: str, width: int, scale: Mapping[str, float]) -> list[str]:
    try:
        from uniplot import plot_to_string  # pyright: ignore[reportUnknownVariableType]  (partly untyped)
    except ImportError as error:
        raise MissingExtraError.for_extra("plot", needed_by="plotting in the terminal", module="uniplot") from error
    values = smoothed([value for _, value in points], max(1, len(points) // 10))
    drawn = plot_to_string(
        xs=[step for step, _ in points] or [math.nan],
        ys=values or [math.nan],
        width=width,
        height=10,
        lines=True,
        color=False,
        character_set="braille",
        title=title,
        **scale,
    )
    return drawn.splitlines()


def _agree(difference: Difference) -> bool:
    a, b = difference.a, difference.b
    return a is not None and b is not None and a["value"] == b["value"] and type(a["value"]) is type(b["value"])


def _interesting(a: RunContents, b: RunContents) -> list[str]:
    """Loss, reward and the evaluations; all that either recorded when there is none of those."""
    seen = {name for contents in (a, b) for line in contents.metrics for name in line.values}
    first = [name for name in _FIRST if name in seen]
    evaluations = sorted(name for name in seen if name.startswith("eval/") and name not in first)
    return [*first, *evaluations] or sorted(seen - _BESIDE_THE_POINT)


def _outcomes(a: RunContents, b: RunContents) -> list[tuple[str, float | None, float | None]]:
    rows: list[tuple[str, float | None, float | None]] = [
        (name, getattr(a.run, name), getattr(b.run, name)) for name in ("step", "loss", "tokens", "seconds")
    ]
    known = {name for name, _, _ in rows}
    for name in dict.fromkeys([*a.run.results, *b.run.results]):
        one, other = _figure(a.run.results.get(name)), _figure(b.run.results.get(name))
        if name not in known and (one is not None or other is not None):
            rows.append((name, one, other))
    return rows


def _figure(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
