"""`crucible export RUN_DIR`: how do trained weights leave the kitchen?"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from crucible.telemetry.terminal import Terminal


class Format(StrEnum):
    """What the folder holds."""

    peft = "peft"
    merged = "merged"


class DType(StrEnum):
    """The merged weights' type."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("export")
    def export(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        run_dir: Annotated[Path, typer.Argument(help="A finished run's folder.", metavar="RUN_DIR")],
        form: Annotated[
            Format, typer.Option("--format", help="peft: an adapter for `peft`; merged: a model for `transformers`.")
        ] = Format.peft,
        out: Annotated[
            Path | None, typer.Option("--out", help="The folder to make; RUN_DIR/FORMAT by default.", metavar="DIR")
        ] = None,
        dtype: Annotated[DType, typer.Option("--dtype", help="Type of the merged weights.")] = DType.float32,
    ) -> None:
        """Write a run's final weights as a folder that peft or transformers load."""
        from crucible.runtime.exporting import export as write
        from crucible.runtime.finished import open_run

        folder = out or run_dir / form.value
        write(open_run(run_dir), folder, format=form.value, dtype=dtype.value)
        Terminal(soft_wrap=True).print(f"wrote {form.value} weights to {folder}")
