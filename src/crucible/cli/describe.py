"""`crucible describe RECIPE`: what does a recipe do, and which keys does it take?"""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from crucible.cli.arguments import RecipeName
from crucible.telemetry.terminal import Terminal


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
        console = Terminal()
        console.print(Text.assemble((found.name, "bold"), f": {found.description}\n"))
        console.print(draw_text(workflow), highlight=False)
        table = Table("key", "type", "default", "help", box=None, pad_edge=False, header_style="bold")
        for field in config_fields(found.config).values():
            table.add_row(field.name, field.type, repr(field.default), field.help)
        console.print(Text.assemble(("\nConfig", "bold"), " (KEY=VALUE on the command line)\n"))
        console.print(table)
        console.print(Text.assemble(("\nPresets", "bold"), " (preset=NAME)\n"))
        for name, values in found.presets.items():
            mark = " (default)" if name == found.default_preset else ""
            shown = ", ".join(f"{key}={value}" for key, value in values.items()) or "the defaults above"
            console.print(f"  {name}{mark}: {shown}", highlight=False)
        console.print(Text.assemble(("\nPorts", "bold"), f" required: {', '.join(found.required_ports)}"))
        console.print(f"      optional: {', '.join(found.optional_ports) or 'none'}")
