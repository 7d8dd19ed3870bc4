"""What does a person see when our own code fails? One line, and where the traceback is."""

import tempfile
import traceback
from pathlib import Path

from crucible.telemetry.terminal import Terminal


def report(error: Exception, console: Terminal) -> None:
    """Print the error in one line, and write the traceback to a file that the line names."""
    with tempfile.NamedTemporaryFile("w", prefix="crucible-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    console.print(f"unexpected error: {type(error).__name__}: {error}", style="red", highlight=False)
    console.print(f"The traceback is in {Path(file.name)}; please report it.")
