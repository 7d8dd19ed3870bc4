"""`crucible describe RECIPE`: what does a recipe do, and which keys does it take?"""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.arguments import RecipeName


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("describe")
    def describe(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        recipe: RecipeName,
        mermaid: Annotated[bool, typer.Option("--mermaid", help="Draw the workflow as Mermaid source.")] = False,
    ) -> None:
        """Draw a recipe's workflow and list its config keys, presets and ports."""
        from crucible.framework import draw_mermaid, draw_text
        from crucible.kitchen.config import config_fields
        from crucible.runtime import facade

        found = facade.describe(recipe)
        workflow = found.workflow_at_defaults()
        if mermaid:
            typer.echo(draw_mermaid(workflow))
            return
        console = Console()
        console.print(f"[bold]{found.name}[/bold]: {found.description}\n")
        console.print(draw_text(workflow), markup=False, highlight=False)
        table = Table("key", "type", "default", "help", box=None, pad_edge=False, header_style="bold")
        for field in config_fields(found.config).values():
            table.add_row(field.name, field.type, repr(field.default), field.help)
        console.print("\n[bold]Config[/bold] (KEY=VALUE on the command line)\n")
        console.print(table)
        console.print("\n[bold]Presets[/bold] (preset=NAME)\n")
        for name, values in found.presets.items():
            mark = " (default)" if name == found.default_preset else ""
            shown = ", ".join(f"{key}={value}" for key, value in values.items()) or "the defaults above"
            console.print(f"  {name}{mark}: {shown}", markup=False, highlight=False)
        console.print(f"\n[bold]Ports[/bold] required: {', '.join(found.required_ports)}")
        console.print(f"      optional: {', '.join(found.optional_ports) or 'none'}")
