"""`crucible export RUN_DIR`: how do trained weights leave the kitchen?"""

from pathlib import Path
from typing import Annotated

import typer

from crucible.runtime.exporting import ExportDTypeName, ExportFormat
from crucible.runtime.exporting import export as write
from crucible.runtime.finished import open_run
from crucible.telemetry.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("export")
    def export(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        run_dir: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN_DIR")],
        form: Annotated[
            ExportFormat,
            typer.Option("--format", help="peft: an adapter for `peft`; merged: a model for `transformers`."),
        ] = "peft",
        out: Annotated[
            Path | None, typer.Option("--out", help="The folder to make; RUN_DIR/FORMAT by default.", metavar="DIR")
        ] = None,
        dtype: Annotated[ExportDTypeName, typer.Option("--dtype", help="Type of the merged weights.")] = "float32",
    ) -> None:
        """Write a run's weights as a folder that peft or transformers load."""
        run, folder = open_run(run_dir), out or run_dir / form
        if note := run.weights_note:
            Terminal(stderr=True, soft_wrap=True).print(f"note: {note}")
        write(run, folder, format=form, dtype=dtype)
        Terminal(soft_wrap=True).print(f"wrote {form} weights to {folder}")
