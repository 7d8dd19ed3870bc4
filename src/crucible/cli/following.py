"""What does a person see while a run goes on?"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from crucible.telemetry import Event, default_bus
from crucible.telemetry.console import EVENTS, Console
from crucible.telemetry.handlers import open_handler
from crucible.telemetry.terminal import Terminal


@contextmanager
def following(*, verbose: bool, specs: Sequence[str] | None = None, run_dir: Path) -> Generator[None]:
    """Show progress on standard error for the time of the block; with `verbose`, every stage as it ends.

    specs: further handlers, as `telemetry.handlers.open_handler` reads them; run_dir: where they may write.

    Raises:
        ConfigError: if there is no such handler.
    """
    terminal = Terminal(stderr=True)
    progress = Console(terminal)

    def stage_line(event: Event) -> None:
        seconds = event.measurements["duration_ns"] / 1e9
        terminal.print(f"  {event.metadata['path']}  {seconds:.3f} s", style="dim", highlight=False)

    def resumed(event: Event) -> None:
        for sentence in cast("list[str]", event.metadata["skipped"]):
            terminal.print(f"note: {sentence}", highlight=False, soft_wrap=True)
        terminal.print(f"continuing from {event.metadata['position']}", highlight=False)

    def examined(event: Event) -> None:
        for sentence in cast("list[str]", event.metadata["warnings"]):
            terminal.print(f"warning: {sentence}", style="yellow", highlight=False, soft_wrap=True)

    opened = [open_handler(spec, run_dir) for spec in specs or ()]
    watching = [
        (EVENTS, progress),
        (("workflow.resume",), resumed),
        (("data.examined",), examined),
        *((handler.events, handler) for handler in opened),
    ]
    if verbose:
        watching.append((("stage.stop",), stage_line))
    for number, (events, handler) in enumerate(watching):
        default_bus().attach(f"crucible-cli-{number}", events, handler)
    try:
        yield
    finally:
        for number in range(len(watching)):
            default_bus().detach(f"crucible-cli-{number}")
        for handler in (progress, *opened):
            handler.close()
