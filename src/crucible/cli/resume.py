"""`crucible resume RUN_DIR`: go on with a run that was killed, stopped or failed."""

from pathlib import Path
from typing import Annotated

import typer

from crucible.cli.arguments import AllowChange, Telemetry
from crucible.telemetry.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("resume")
    def resume(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        run_dir: Annotated[Path, typer.Argument(help="The folder of an unfinished run.", metavar="RUN_DIR")],
        allow_change: AllowChange = None,
        telemetry: Telemetry = None,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every stage as well.")] = False,
    ) -> None:
        """Continue a run from its latest whole checkpoint, to the same bytes as if it had never stopped."""
        from crucible.cli.following import following
        from crucible.cli.run import telling_where
        from crucible.cli.summary import print_summary
        from crucible.runtime import facade

        with following(verbose=verbose, specs=telemetry, run_dir=run_dir), telling_where(run_dir):
            result = facade.resume(run_dir, allow_change=allow_change or ())
        assert not isinstance(result, facade.Prepared)
        print_summary(result, Terminal(), manifest="default")
