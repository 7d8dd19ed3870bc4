# pyright: standard
# (matplotlib and uniplot are partly untyped)
"""What did the run do? Its curve, of the reward or of the loss, as a picture and as a few lines of terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crucible.errors import MissingExtraError
from crucible.ports.metrics_store import MetricsRow


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn. key: of each step; held_out: of the evaluations, with the label of its points; label: of the
    axis; title: in the terminal; file: the pictures' name."""

    key: str
    held_out: str
    label: str
    title: str
    file: str


REWARD = Curve(key="reward/mean", held_out="eval/reward/mean", label="mean reward", title="mean reward", file="reward")
LOSS = Curve(
    key="loss",
    held_out="eval/nll",
    label="negative log-likelihood per token (nats)",
    title="training loss",
    file="loss",
)


def curve_of(metrics: Sequence[MetricsRow]) -> Curve:
    """The reward, where there is one: a policy's loss says nothing of how well it does."""
    return REWARD if any(REWARD.key in row.values for row in metrics) else LOSS


def points(metrics: Sequence[MetricsRow], key: str = "loss") -> tuple[list[int], list[float]]:
    """(steps, values) of the rows that have the key."""
    rows = [row for row in metrics if key in row.values]
    return [row.step for row in rows], [row.values[key] for row in rows]


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """The mean of each value and the up to `span - 1` before it."""
    return [sum(part) / len(part) for part in (values[max(0, i + 1 - span) : i + 1] for i in range(len(values)))]


def draw(metrics: Sequence[MetricsRow], folder: Path, *, title: str) -> list[Path]:
    """Write `reward.svg` and `.png`, or `loss.svg` and `.png`, into the folder; nothing when none was recorded.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    curve = curve_of(metrics)
    steps, values = points(metrics, curve.key)
    if not steps:
        return []
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.for_extra("plot", needed_by="drawing the curve", module="matplotlib") from error
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, values, linewidth=0.8, alpha=0.35, color="tab:blue", label="each step")
    span = max(1, len(steps) // 10)
    axes.plot(steps, smoothed(values, span), linewidth=1.8, color="tab:blue", label=f"mean of {span} steps")
    eval_steps, eval_values = points(metrics, curve.held_out)
    if eval_steps:
        axes.plot(eval_steps, eval_values, "o--", markersize=5, color="tab:orange", label="held-out")
    axes.set(xlabel="step", ylabel=curve.label)
    axes.set_title(title, parse_math=False)  # a `$` in a path is no formula
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    paths = [folder / f"{curve.file}.svg", folder / f"{curve.file}.png"]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def terminal_plot(metrics: Sequence[MetricsRow], *, width: int = 72, height: int = 10) -> str:
    """The curve in characters; empty when fewer than two steps recorded it.

    Raises:
        MissingExtraError: if uniplot is not installed.
    """
    curve = curve_of(metrics)
    steps, values = points(metrics, curve.key)
    if len(steps) < 2:
        return ""
    try:
        from uniplot import plot_to_string
    except ImportError as error:
        raise MissingExtraError.for_extra("plot", needed_by="plotting in the terminal", module="uniplot") from error
    span = max(1, len(steps) // 10)
    return plot_to_string(
        xs=steps,
        ys=smoothed(values, span),
        width=max(20, width - 12),
        height=height,
        lines=True,
        character_set="braille",
        title=f"{curve.title} (mean of {span} steps)",
    )
