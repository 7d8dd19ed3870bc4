"""`crucible verify-resume RECIPE`: does this very run, on this machine, survive being killed?"""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from crucible.cli.arguments import (
    Adapters,
    ConfigFile,
    ManifestName,
    Options,
    RecipeName,
    Values,
    adapter_options,
    adapter_overrides,
    config_layers,
)
from crucible.errors import ConfigError
from crucible.kitchen.config import Configured, Layer
from crucible.telemetry.terminal import Terminal

_SHORT: dict[str, object] = {
    "max_steps": 12,
    "save_every": 3,
    "batch_size": 2,
    "max_length": 128,
    "eval_rows": 2,
    "limit": 60,
    "waive": "truncation",
    "groups_per_batch": 2,
    "group_size": 4,
    "eval_groups": 2,
}
"""What a run is, where nobody says otherwise: enough to be killed in, short enough to be done again."""


def _told(short: Layer, built: Configured) -> str:
    """The short values that nobody overrode."""
    kept = [key for key in short.values if built.origins.get(key) == short.origin]
    return ", ".join(f"{key}={short.values[key]}" for key in kept) or "as you said"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("verify-resume")
    def verify(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        recipe: RecipeName,
        values: Values = None,
        config: ConfigFile = None,
        manifest: ManifestName = "default",
        kills: Annotated[int, typer.Option("--kills", min=1, help="How many times to kill it.")] = 5,
        seed: Annotated[int, typer.Option("--seed", help="Draws the moments of the kills.")] = 0,
        folder: Annotated[
            Path | None,
            typer.Option("--folder", help="Where the runs go, and stay; a temporary folder by default.", metavar="DIR"),
        ] = None,
        option: Options = None,
        adapter: Adapters = None,
    ) -> None:
        """Run once straight, then with kill -9 at random moments and inside checkpoint writes, and compare the bytes.

        What you do not say is kept short: a few small steps with a checkpoint now and then.
        """
        from crucible.runtime import facade
        from crucible.runtime.verify_resume import Job, verify_resume

        adapters, options = adapter_overrides(adapter), adapter_options(option)
        known = facade.describe(recipe).keys
        short = Layer(origin="verify-resume", values={key: value for key, value in _SHORT.items() if key in known})
        layers = [short, *config_layers(values, config)]
        facade.prepare(recipe, layers, manifest=manifest, adapters=adapters, options=options, run_dir=folder)
        given = {"manifest": manifest, "adapters": adapters, "options": options}
        job = Job(work=facade.build_spec(recipe, layers), options=given)
        console = Terminal()
        console.print(f"of each run: {_told(short, facade.configure(recipe, layers))}", highlight=False)
        place = folder or Path(tempfile.mkdtemp(prefix="crucible-verify-"))
        if place.exists() and any(place.iterdir()):
            raise ConfigError.of("the folder is not empty", where=str(place), fix="Give a new --folder")
        found = verify_resume(
            job, kills=kills, seed=seed, folder=place, tell=lambda line: console.print(line, highlight=False)
        )
        if found.differences:
            for name in found.differences:
                console.print(f"not the straight run's: {name}", style="red", highlight=False, soft_wrap=True)
            raise typer.Exit(1)
        console.print(
            f"{len(found.kills)} kills in {len(found.runs)} runs: metrics, checkpoints and final weights are the "
            "straight run's, byte for byte",
            soft_wrap=True,
        )
