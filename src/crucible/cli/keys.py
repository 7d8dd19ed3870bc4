"""`crucible keys`: who may use a server?"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from crucible.cli.serve import DatabaseUrl, DataFolder
from crucible.runtime.serving import default_data, open_store
from crucible.telemetry.terminal import Terminal

_KeyName = Annotated[str, typer.Argument(help="The key's name.", metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys = typer.Typer(name="keys", no_args_is_help=True, help="Make, list and revoke the API keys of a server.")
    app.add_typer(keys)

    @keys.command("create")
    def create(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        name: _KeyName,
        renew: Annotated[
            bool, typer.Option("--renew", help="A new secret for a key that exists; it owns what it owned.")
        ] = False,
        data: DataFolder = None,
        database: DatabaseUrl = None,
    ) -> None:
        """Make a key and print its secret, which is shown this once and kept nowhere."""
        notes = Terminal(stderr=True, soft_wrap=True)
        with open_store((data or default_data()).expanduser(), database) as store:
            first = not store.keys.any_in_force()
            _, secret = store.keys.renew(name) if renew else store.keys.create(name)
        if first and not renew:
            notes.print("note: a server that runs without keys goes on taking any until it is started again")
        Terminal(soft_wrap=True).print(secret, highlight=False)

    @keys.command("list")
    def show(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        data: DataFolder = None, database: DatabaseUrl = None
    ) -> None:
        """List the keys, revoked ones too."""
        with open_store((data or default_data()).expanduser(), database) as store:
            found = store.keys.all()
        console = Terminal(soft_wrap=True)
        for key in found:
            state = "in force" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
            console.print(f"{key.name:<24} {key.key_id}  made {_day(key.created_at)}  {state}", highlight=False)
        if not found:
            console.print("there are no keys: a server here takes any, on this machine alone", highlight=False)

    @keys.command("revoke")
    def revoke(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        name: _KeyName, data: DataFolder = None, database: DatabaseUrl = None
    ) -> None:
        """Refuse a key from now on. What it owns stays, and nobody sees it."""
        with open_store((data or default_data()).expanduser(), database) as store:
            store.keys.revoke(name)
        Terminal(soft_wrap=True).print(f"revoked {name}; a server that runs refuses it within seconds", highlight=False)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
