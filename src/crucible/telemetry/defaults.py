"""Which handlers does a process have without asking for any?"""

from typing import TYPE_CHECKING

from crucible.telemetry.bus import Bus, default_bus

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

DEFAULT_ID = "crucible.console"


def attach_default_handlers(*, bus: Bus | None = None, console: "RichConsole | None" = None) -> None:
    """Show progress on the console. Calling it twice attaches once.

    bus: the default bus if None. console: standard error if None.
    """
    from crucible.telemetry import console as display  # rich is only worth its import time to who watches

    target = bus or default_bus()
    if DEFAULT_ID not in target.attached():
        target.attach(DEFAULT_ID, display.EVENTS, display.Console(console))
