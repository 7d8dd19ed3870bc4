"""`crucible recipes`: which recipes are there?"""

import typer
from rich.table import Table

from crucible.telemetry.terminal import Terminal


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("recipes")
    def recipes() -> None:  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        """List the recipes: name, what it does, what it needs."""
        from crucible.runtime.facade import recipes as known

        table = Table("recipe", "what it does", "needs", "ports", box=None, pad_edge=False, header_style="bold")
        for recipe in known().values():
            table.add_row(recipe.name, recipe.description, recipe.needs, ", ".join(recipe.required_ports))
        Terminal().print(table)
