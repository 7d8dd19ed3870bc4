"""What does a person see when a run is done?"""

import shlex
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from crucible.errors import MissingExtraError
from crucible.framework import RunResult
from crucible.runtime.curve import draw, terminal_plot


def print_summary(result: RunResult, console: Console, *, manifest: str) -> None:
    """The held-out loss or reward before and after, a sample before and after, the curve, the cost, what to do next."""
    found = result.results
    assert result.run_dir is not None
    _print_samples(found, console)
    pictures: list[Path] = []
    with _saying_what_is_missing(console):
        pictures = draw(result.metrics, result.run_dir, title=f"{result.recipe} · {result.config.get('model', '')}")
    with _saying_what_is_missing(console):
        console.print(Text.from_ansi(terminal_plot(result.metrics, width=min(console.width, 100))))
    before, after = found.get("eval_nll_before"), found.get("eval_nll_after")
    if before is not None and after is not None:
        _fact(
            console, "held-out NLL", f"{before:.4f} before → {after:.4f} after (nats per token, {after - before:+.4f})"
        )
    bits_before, bits_after = found.get("eval_bits_per_byte_before"), found.get("eval_bits_per_byte_after")
    if bits_before is not None and bits_after is not None:
        _fact(console, "bits per byte", f"{bits_before:.4f} before → {bits_after:.4f} after")
    reward_before, reward_after = found.get("eval_reward_mean_before"), found.get("eval_reward_mean_after")
    if reward_before is not None and reward_after is not None:
        _fact(console, "held-out", f"mean reward {reward_before:.3f} before → {reward_after:.3f} after")
    if found.get("tokens_per_second"):
        trained = f"{found['tokens']:,} input tokens in {found['steps']} steps and {found['training_seconds']:.0f} s"
        _fact(console, "speed", f"{found['tokens_per_second']:.0f} tokens/s ({trained})")
    if found.get("rows_dropped") or found.get("rows_truncated"):
        _fact(console, "rows", f"{found['rows_dropped']} dropped, {found['rows_truncated']} truncated")
    if found.get("peak_memory_bytes"):
        _fact(console, "peak memory", f"{found['peak_memory_bytes'] / 2**30:.2f} GiB")
    if pictures:
        _fact(console, f"{pictures[0].stem} curve", " ".join(str(path) for path in pictures))
    _fact(console, "run folder", str(result.run_dir))
    if "final_checkpoint" in found:
        where = "" if manifest == "default" else f" --manifest {manifest}"
        _fact(console, "talk to it", f"crucible chat {shlex.quote(str(result.run_dir))} --compare{where}")


@contextmanager
def _saying_what_is_missing(console: Console) -> Generator[None]:
    """A curve that cannot be drawn costs a line, never the summary."""
    try:
        yield
    except MissingExtraError as error:
        console.print(f"no curve: {error}", soft_wrap=True)


def _fact(console: Console, label: str, text: str) -> None:
    console.print(Text.assemble((f"{label:<14}", "bold"), text), soft_wrap=True)


def _print_samples(found: Mapping[str, Any], console: Console) -> None:
    before, after = found.get("sample_before"), found.get("sample_after")
    if not before or not after:
        return
    console.print(Panel(Text(before["prompt"]), title="a held-out question", title_align="left"))
    console.print(Panel(Text(before["answer"]), title="answer before", title_align="left", style="dim"))
    console.print(Panel(Text(after["answer"]), title="answer after", title_align="left"))
    console.print(Panel(Text(after["reference"]), title="reference", title_align="left", style="dim"))
