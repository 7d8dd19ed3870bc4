"""`crucible serve`: how does a program written for Tinker or OpenAI talk to a model on this machine?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from crucible.cli.arguments import Options, adapter_options
from crucible.runtime.serving import Ready, ServeOptions, default_data, read_limits, read_models, serve
from crucible.telemetry.terminal import Terminal

DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder of checkpoints and database.", metavar="DIR", show_default=False)
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database", help="SQLite or PostgreSQL URL; SQLite in the data folder by default.", metavar="URL"),
]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("serve")
    def serve_models(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        model: Annotated[
            list[str],
            typer.Option(
                "--model",
                help="A model: packaged name, hub id, folder or GGUF file; NAME=MODEL gives it the name that clients "
                "ask for. Can be given again.",
                metavar="[NAME=]MODEL",
            ),
        ],
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any free one.")] = 8000,
        host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
        data: DataFolder = None,
        database: DatabaseUrl = None,
        copies: Annotated[
            Path | None,
            typer.Option(
                "--copies", help="Folder, on another disk, where every checkpoint is kept too.", metavar="DIR"
            ),
        ] = None,
        dtype: Annotated[
            Literal["float32", "bfloat16"] | None, typer.Option("--dtype", help="What the engine computes in.")
        ] = None,
        threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads of the engine.")] = None,
        slots: Annotated[int | None, typer.Option("--slots", min=1, help="Completions drawn at a time.")] = None,
        insecure_any_key: Annotated[
            bool,
            typer.Option("--insecure-any-key", help="Without keys, let whoever reaches the address in."),
        ] = False,
        limit: Annotated[
            list[str] | None,
            typer.Option("--limit", help="One of the server's limits, as NAME=NUMBER, for example max_models=8."),
        ] = None,
        option: Options = None,
    ) -> None:
        """Serve models behind the Tinker API, and behind OpenAI's. Ctrl-C ends it."""
        named = {"dtype": dtype, "threads": threads, "slots": slots}
        engine = {name: value for name, value in named.items() if value is not None}
        options = ServeOptions(
            models=read_models(model),
            data=(data or default_data()).expanduser(),
            database=database,
            copies=copies,
            host=host,
            port=port,
            engine={**adapter_options(option).get("torch", {}), **engine},
            any_key=insecure_any_key,
            limits=read_limits(limit or ()),
        )
        told = Terminal(stderr=True, soft_wrap=True)
        serve(options, progress=lambda text: told.print(text, style="dim", highlight=False), on_ready=_announce)


def _announce(ready: Ready) -> None:
    """The two lines to export come last, on stdout; everything else is beside them."""
    notes = Terminal(stderr=True, soft_wrap=True)
    found = ready.recovered
    if found.lost_sessions:
        notes.print(f"note: {found.lost_sessions} sessions were open when the server ended last: they are lost")
    for path in found.missing[:10]:
        notes.print(f"note: the files of {path} are gone", highlight=False)
    if len(found.missing) > 10:
        notes.print(f"note: and those of {len(found.missing) - 10} more checkpoints")
    if not any("/" in name for name in ready.models):
        notes.print("note: tinker-cookbook knows models by org/name: name yours with --model org/name=MODEL")
    notes.print(f"serving {', '.join(ready.models)} from {ready.data}", highlight=False)
    notes.print(f"OpenAI's API is at {ready.url}/v1", highlight=False)
    key = "tml-local" if not ready.keys else f"<the secret of one of: {', '.join(ready.keys)}>"
    lines = Terminal(soft_wrap=True)
    lines.print(f"export TINKER_BASE_URL={ready.url}", highlight=False)
    lines.print(f"export TINKER_API_KEY={key}", highlight=False)
