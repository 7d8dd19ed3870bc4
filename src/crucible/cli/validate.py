"""`crucible validate RECIPE`: is a config right?"""

import typer

from crucible.cli.arguments import ConfigFile, RecipeName, Values, config_layers
from crucible.errors import WorkflowError


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("validate")
    def validate(recipe: RecipeName, values: Values = None, config: ConfigFile = None) -> None:  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        """Check a config and the workflow it gives; lists every problem at once and exits with 2."""
        from crucible.framework import check
        from crucible.runtime import facade

        found = facade.describe(recipe)
        built = facade.configure(found, config_layers(values, config))
        problems = check(found.workflow(built.value))
        if problems:
            raise WorkflowError(problems)
        for note in built.notes:
            typer.echo(f"note: {note}", err=True)
        typer.echo(f"{recipe}: the config is right")
