"""`crucible run RECIPE`: do it."""

import shlex
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from crucible.cli.arguments import (
    CONTINUE,
    Adapters,
    AllowChange,
    ConfigFile,
    ManifestName,
    Options,
    RecipeName,
    Telemetry,
    Values,
    adapter_options,
    adapter_overrides,
    config_layers,
)
from crucible.framework import read_records
from crucible.runtime import facade
from crucible.telemetry.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("run")
    def run(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        recipe: RecipeName,
        values: Values = None,
        config: ConfigFile = None,
        manifest: ManifestName = "default",
        run_dir: Annotated[
            Path | None,
            typer.Option("--run-dir", help="The run's folder; a new one below runs/ by default.", metavar="DIR"),
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve, check and print; touch nothing.")] = False,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every stage as well.")] = False,
        resume: Annotated[
            str,
            typer.Option(
                "--resume",
                help="Where the folder holds an unfinished run: continue it (auto) or refuse (never); must refuses "
                "where it holds none.",
                metavar="auto|never|must",
            ),
        ] = "auto",
        allow_change: AllowChange = None,
        telemetry: Telemetry = None,
        option: Options = None,
        adapter: Adapters = None,
    ) -> None:
        """Run a recipe: crucible run sl_basic model=smollm2-135m dataset=gsm8k epochs=1"""
        layers = config_layers(values, config)
        options, overrides = adapter_options(option), adapter_overrides(adapter)
        console = Terminal()
        if dry_run:
            prepared = facade.prepare(
                recipe, layers, manifest=manifest, options=options, adapters=overrides, run_dir=run_dir
            )
            _print_prepared(prepared, console)
            return
        from crucible.cli.following import following
        from crucible.cli.summary import print_summary

        for note in facade.configure(recipe, layers).notes:
            Terminal(stderr=True).print(f"note: {note}")
        folder = run_dir or facade.fresh_folder(recipe)
        with following(verbose=verbose, specs=telemetry, run_dir=folder), telling_where(folder):
            result = facade.run(
                recipe,
                layers,
                manifest=manifest,
                options=options,
                adapters=overrides,
                run_dir=folder,
                resume=resume,
                allow_change=allow_change or (),
            )
        assert not isinstance(result, facade.Prepared)
        print_summary(result, console, manifest=manifest)


@contextmanager
def telling_where(folder: Path) -> Generator[None]:
    """When the block's run fails or is stopped, say where its records are and how it is continued."""
    before = _started(folder)
    try:
        yield
    except BaseException as error:
        if _started(folder) > before:
            words = Terminal(stderr=True, soft_wrap=True)
            words.print(f"the run's records are in {folder}", style="dim")
            error.add_note(f"{CONTINUE} {shlex.quote(str(folder))}")
        raise


def _started(folder: Path) -> int:
    """How many times a run of this folder has begun or gone on."""
    return sum(record["kind"] == "start" for record in read_records(folder / "journal.jsonl")[0])


def _print_prepared(prepared: facade.Prepared, console: Terminal) -> None:
    from crucible.framework import draw_text

    table = Table("key", "value", "from", box=None, pad_edge=False, header_style="bold")
    for key, value in (prepared.experiment.config or {}).items():
        table.add_row(key, repr(value), prepared.origins.get(key, ""))
    console.print(table)
    console.print()
    ports = Table("port", "adapter", box=None, pad_edge=False, header_style="bold")
    for port, name in prepared.ports.items():
        ports.add_row(port, name)
    console.print(ports)
    console.print()
    console.print(draw_text(prepared.workflow), highlight=False)
    for note in prepared.notes:
        console.print(f"note: {note}")
    console.print("\ndry run: nothing was read, fetched or written", style="dim")
