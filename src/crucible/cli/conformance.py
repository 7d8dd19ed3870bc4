"""`crucible conformance URL`: does a server speak the Tinker API, and are its numbers right?"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from crucible.errors import MissingExtraError
from crucible.ports.tokenizer import Tokenizer
from crucible.telemetry.terminal import Terminal

if TYPE_CHECKING:
    from crucible.server.conformance import Finding, Scorecard, Status

_STYLES: "dict[Status, str]" = {"pass": "green", "fail": "red", "unsupported": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("conformance")
    def conformance(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        url: Annotated[str, typer.Argument(help="The server's base URL, such as http://127.0.0.1:8000.")],
        model: Annotated[
            str | None, typer.Option("--model", help="The base model to use; the first that is served if left out.")
        ] = None,
        key: Annotated[
            str | None, typer.Option("--key", help="The API key; TINKER_API_KEY, or tml-local, if left out.")
        ] = None,
        tolerance: Annotated[
            float, typer.Option("--tolerance", help="Nats within which logprobs are equal; a bf16 server needs 0.05.")
        ] = 1e-3,
        only: Annotated[
            list[str] | None, typer.Option("--only", help="Only this check or group. May be repeated.", metavar="NAME")
        ] = None,
        patience: Annotated[float, typer.Option("--patience", help="Seconds that one result may take.")] = 120.0,
        as_json: Annotated[bool, typer.Option("--json", help="Print the scorecard as JSON.")] = False,
    ) -> None:
        """Examine a server that speaks the Tinker API. Exits with 1 if it does not conform, 2 if there is none."""
        from crucible.server.conformance import Unreachable, examine

        console = Terminal(stderr=as_json)
        try:
            with console.status("examining the server") as status:
                card = examine(
                    url,
                    key=key or os.environ.get("TINKER_API_KEY") or "tml-local",
                    model=model,
                    tolerance=tolerance,
                    only=only or (),
                    patience=patience,
                    tokenizers=_tokenizer,
                    on_start=lambda group, check: status.update(f"{group}: {check.name}"),
                )
        except Unreachable as error:
            Terminal(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", highlight=False)
            raise typer.Exit(2) from error
        if as_json:
            typer.echo(json.dumps({**asdict(card), "conforms": card.conforms}, indent=2, ensure_ascii=False))
        else:
            _print(card, console)
        if not card.conforms:
            raise typer.Exit(1)


def _tokenizer(tokenizer_id: str) -> Tokenizer | None:
    """The server's tokenizer, where that is a folder of this machine and the extra that reads it is installed."""
    if not (Path(tokenizer_id) / "tokenizer.json").is_file():
        return None
    from crucible.adapters.tokenizer import HfTokenizerStore

    try:
        return HfTokenizerStore(resolve_model=Path).load(tokenizer_id)
    except MissingExtraError:
        return None


def _print(card: "Scorecard", console: Terminal) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    group = ""
    for finding in card.findings:
        if finding.group != group:
            group = finding.group
            table.add_row("", Text(f"\n{group}", style="bold underline"), "")
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), finding.check, _words(finding))
    console.print(table)
    counts = ", ".join(f"{card.count(status)} {status}" for status in _STYLES)
    verdict = "conforms" if card.conforms else "does not conform"
    console.print(
        f"\n{card.url} ({card.base_model}) {verdict}: {counts}; tolerance {card.tolerance:g}", highlight=False
    )


def _words(finding: "Finding") -> Text:
    words = Text(finding.statement)
    if finding.status == "fail" and finding.expected:
        words.append(f"\n{finding.detail}: expected {finding.expected}, got {finding.got}", style="red")
    else:
        words.append(f"\n{finding.detail}", style="red" if finding.status == "fail" else "dim")
    if finding.status == "unsupported" and not finding.required:
        words.append(" (not required)", style="dim")
    return words
