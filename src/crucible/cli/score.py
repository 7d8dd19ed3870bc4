"""`crucible eval RECIPE`: how good is a model, or a run's weights, on held-out rows?"""

from pathlib import Path
from typing import Annotated

import typer

from crucible.cli.arguments import (
    ConfigFile,
    ManifestName,
    Options,
    RecipeName,
    Values,
    adapter_options,
    config_layers,
)
from crucible.telemetry.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("eval")
    def evaluate(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        recipe: RecipeName,
        values: Values = None,
        config: ConfigFile = None,
        run_dir: Annotated[
            Path | None, typer.Option("--run", help="Measure this finished run's weights.", metavar="RUN_DIR")
        ] = None,
        manifest: ManifestName = "default",
        option: Options = None,
    ) -> None:
        """Measure held-out NLL and bits per byte: of the base model, or of a run's weights with --run."""
        from crucible.cli.following import following
        from crucible.runtime import facade
        from crucible.runtime.finished import open_run

        checkpoint = open_run(run_dir).state_path if run_dir else ""
        layers = config_layers(values, config or (run_dir / "config.json" if run_dir else None))
        with following(verbose=False, run_dir=run_dir or Path()):
            result = facade.eval(
                recipe, layers, checkpoint=checkpoint, manifest=manifest, options=adapter_options(option)
            )
        assert not isinstance(result, facade.Prepared)
        console = Terminal()
        for name, value in result.results.items():
            if name.startswith("eval_"):
                console.print(f"{name:<32} {value:.4f}")
        console.print(f"{'run folder':<32} {result.run_dir}", soft_wrap=True)
