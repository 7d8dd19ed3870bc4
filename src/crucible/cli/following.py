"""What does a person see while a run goes on?"""

from collections.abc import Generator
from contextlib import contextmanager

from crucible.telemetry import Event, default_bus
from crucible.telemetry.console import EVENTS, Console
from crucible.telemetry.terminal import Terminal


@contextmanager
def following(*, verbose: bool) -> Generator[None]:
    """Show progress on standard error for the time of the block; with `verbose`, every stage as it ends."""
    terminal = Terminal(stderr=True)
    progress = Console(terminal)

    def stage_line(event: Event) -> None:
        seconds = event.measurements["duration_ns"] / 1e9
        terminal.print(f"  {event.metadata['path']}  {seconds:.3f} s", style="dim", highlight=False)

    default_bus().attach("crucible-cli", EVENTS, progress)
    if verbose:
        default_bus().attach("crucible-cli-stages", "stage.stop", stage_line)
    try:
        yield
    finally:
        default_bus().detach("crucible-cli")
        default_bus().detach("crucible-cli-stages")
        progress.close()
