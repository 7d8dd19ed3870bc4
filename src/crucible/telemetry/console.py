"""How does a person watch a run? A progress line on a terminal, plain lines anywhere else."""

import time
from datetime import timedelta

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from crucible.telemetry.event import Event
from crucible.telemetry.terminal import Terminal

EVENTS = (
    "workflow.stop",
    "workflow.exception",
    "rollout.group",
    "training.step",
    "training.epoch",
    "training.checkpoint",
    "eval.result",
)
"""What `Console` wants to hear. Stages are not among them: they are many and short."""

_PLAIN_LINES = 100
"""About how many step lines a run prints where there is no terminal."""


class Console:
    """A handler that shows step, loss or reward, learning rate, tokens/s and time left; evaluations; checkpoints.

    console: where to; standard error by default, so that a command's own output stays clean.
    """

    def __init__(self, console: RichConsole | None = None) -> None:
        self._console = console or Terminal(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._began: tuple[float, float] | None = None

    def __call__(self, event: Event) -> None:
        match event.name:
            case "training.step":
                self._show_step(event)
            case "rollout.group":
                self._show_rollouts(event)
            case "training.epoch":
                self._line("epoch", event)
            case "training.checkpoint":
                self._line("checkpoint", event)
            case "eval.result":
                self._line("eval", event)
            case "workflow.stop" | "workflow.exception":
                self.close()
            case _:
                pass

    def close(self) -> None:
        """Leave the terminal as it was. Safe to call twice."""
        progress, self._progress, self._began = self._progress, None, None
        if progress is not None:
            progress.stop()

    def _show_step(self, event: Event) -> None:
        measured = event.measurements
        step, total = int(measured["step"]), int(measured["total_steps"])
        if self._console.is_terminal:
            self._bar(total).update(self._task, completed=step, total=total, description=_numbers(event))
        elif step in (1, total) or step % max(1, total // _PLAIN_LINES) == 0:
            self._console.print(
                f"step {step}/{total}  {_numbers(event)}  {self._left(step, total)}", highlight=False, soft_wrap=True
            )

    def _show_rollouts(self, event: Event) -> None:
        """How far a step's rollouts are; where there is no terminal, lines of steps are enough."""
        if self._console.is_terminal:
            told = event.measurements
            words = f"rollouts {told['done']:.0f}/{told['total']:.0f}"
            self._bar(int(told["total_steps"])).update(self._task, description=words)

    def _bar(self, total: int) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=None),
                TextColumn("{task.description}"),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task("", total=total)
            self._progress.start()
        return self._progress

    def _left(self, step: int, total: int) -> str:
        """Time left at the mean pace since the first step seen."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, step)
        began, first = self._began
        if step == first:
            return "ETA ?"
        return f"ETA {timedelta(seconds=round((now - began) / (step - first) * (total - step)))}"

    def _line(self, what: str, event: Event) -> None:
        told = {key: value for key, value in event.metadata.items() if key not in ("run_id", "stage")}
        measured = event.measurements
        if "eval/reward/mean" in measured:  # of a dozen numbers, what a person looks for; metrics.jsonl has them all
            measured = {key: value for key, value in measured.items() if key in _SHOWN_OF_REWARDS}
        words = [f"{key}={_spelled(value)}" for key, value in (*told.items(), *measured.items())]
        self._console.print(f"{what}  {'  '.join(words)}", highlight=False, markup=False, soft_wrap=True)


_SHOWN_OF_REWARDS = ("step", "groups", "eval/reward/mean", "eval/reward/stderr")


def _numbers(event: Event) -> str:
    measured = event.measurements
    shown = (
        ("reward", "reward/mean", "{:.3f}"),
        ("kl", "kl_sample_train", "{:.1e}"),
        *(() if "reward/mean" in measured else (("loss", "loss", "{:.4f}"),)),
        ("lr", "learning_rate", "{:.2e}"),
        ("tok/s", "tokens_per_second", "{:.0f}"),
    )
    return "  ".join(f"{label} {form.format(measured[key])}" for label, key, form in shown if key in measured)


def _spelled(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
