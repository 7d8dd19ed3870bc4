"""`crucible doctor RECIPE`: is something wrong, before it costs anything?"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

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
from crucible.telemetry.terminal import Terminal
from crucible.train.checks import Finding, Status

_STYLES: dict[Status, str] = {"pass": "green", "warn": "yellow", "fail": "red", "skipped": "dim"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("doctor")
    def doctor(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        recipe: RecipeName,
        values: Values = None,
        config: ConfigFile = None,
        manifest: ManifestName = "default",
        only: Annotated[
            list[str] | None, typer.Option("--only", help="Only this check. May be repeated.", metavar="NAME")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
        option: Options = None,
        adapter: Adapters = None,
    ) -> None:
        """Check data, masks, template, settings and backend. Exits with 2 if a check fails."""
        from crucible.runtime.examining import doctor as examine

        console = Terminal(stderr=as_json)
        with console.status("examining data and backend"):
            found = examine(
                recipe,
                config_layers(values, config),
                manifest=manifest,
                adapters=adapter_overrides(adapter),
                options=adapter_options(option),
                only=only or (),
            )
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
        else:
            _print(found, console)
        if any(finding.status == "fail" for finding in found):
            raise typer.Exit(2)


def _print(findings: Sequence[Finding], console: Terminal) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        told = Text(finding.sentence)
        if finding.status in ("warn", "fail"):
            for label, words in (("first", finding.where), ("do", finding.fix)):
                told.append(f"\n{label}: {words}" if words else "", style="dim")
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), finding.check, told)
    console.print(table)
    counts = [(status, sum(finding.status == status for finding in findings)) for status in _STYLES]
    words = {"pass": "passed", "warn": "warned", "fail": "failed", "skipped": "skipped"}
    console.print("\n" + ", ".join(f"{count} {words[status]}" for status, count in counts if count), highlight=False)
