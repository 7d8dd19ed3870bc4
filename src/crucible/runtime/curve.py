# pyright: standard
# (matplotlib and uniplot are partly untyped)
"""What did the loss do? A run's loss curve as a picture and as a few lines of terminal."""

from collections.abc import Sequence
from pathlib import Path

from crucible.errors import MissingExtraError
from crucible.ports.metrics_store import MetricsRow


def loss_points(metrics: Sequence[MetricsRow], key: str = "loss") -> tuple[list[int], list[float]]:
    """(steps, values) of the rows that have the key."""
    rows = [row for row in metrics if key in row.values]
    return [row.step for row in rows], [row.values[key] for row in rows]


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """The mean of each value and the up to `span - 1` before it."""
    return [sum(part) / len(part) for part in (values[max(0, i + 1 - span) : i + 1] for i in range(len(values)))]


def draw(metrics: Sequence[MetricsRow], folder: Path, *, title: str) -> list[Path]:
    """Write `loss.svg` and `loss.png` into the folder; nothing when no loss was recorded.

    Raises:
        MissingExtraError: if matplotlib is not installed.
    """
    steps, losses = loss_points(metrics)
    if not steps:
        return []
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError.for_extra("plot", needed_by="drawing the loss curve", module="matplotlib") from error
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(steps, losses, linewidth=0.8, alpha=0.35, color="tab:blue", label="each step")
    span = max(1, len(steps) // 10)
    axes.plot(steps, smoothed(losses, span), linewidth=1.8, color="tab:blue", label=f"mean of {span} steps")
    eval_steps, eval_values = loss_points(metrics, "eval/nll")
    if eval_steps:
        axes.plot(eval_steps, eval_values, "o--", markersize=5, color="tab:orange", label="held-out")
    axes.set(xlabel="step", ylabel="negative log-likelihood per token (nats)")
    axes.set_title(title, parse_math=False)  # a `$` in a path is no formula
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    paths = [folder / "loss.svg", folder / "loss.png"]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def terminal_plot(metrics: Sequence[MetricsRow], *, width: int = 72, height: int = 10) -> str:
    """The loss curve in characters; empty when fewer than two steps recorded one.

    Raises:
        MissingExtraError: if uniplot is not installed.
    """
    steps, losses = loss_points(metrics)
    if len(steps) < 2:
        return ""
    try:
        from uniplot import plot_to_string
    except ImportError as error:
        raise MissingExtraError.for_extra("plot", needed_by="plotting in the terminal", module="uniplot") from error
    span = max(1, len(steps) // 10)
    return plot_to_string(
        xs=steps,
        ys=smoothed(losses, span),
        width=max(20, width - 12),
        height=height,
        lines=True,
        character_set="braille",
        title=f"training loss (mean of {span} steps)",
    )
