"""`crucible inspect`: what will the model see of these rows, and what did it see in that run?"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
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
from crucible.errors import ConfigError
from crucible.telemetry.terminal import Terminal

if TYPE_CHECKING:
    from crucible.cli.token_text import Found
    from crucible.runtime.token_rows import Inspection

_Html = Annotated[
    Path | None,
    typer.Option("--html", help="Write a page with every token; it needs no other file.", metavar="FILE"),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    inspect = typer.Typer(no_args_is_help=True, help="Show what the model sees, token by token.")
    inspect.command("data")(_data)
    inspect.command("run")(_run)
    app.add_typer(inspect, name="inspect")


def _data(
    recipe: RecipeName,
    values: Values = None,
    config: ConfigFile = None,
    manifest: ManifestName = "default",
    option: Options = None,
    adapter: Adapters = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, help="How many rows.")] = 8,
    first: Annotated[int, typer.Option("--from", min=1, help="The first row shown, counted from 1.")] = 1,
    html: _Html = None,
) -> None:
    """Show rows as the run would render them: crucible inspect data sl_basic dataset=rows.jsonl --rows 8

    Trained tokens are coloured, or stand in brackets where there are no colours.
    """
    from crucible.cli.token_text import print_legend, print_row
    from crucible.runtime.inspecting import inspect_data

    console = Terminal()
    found = inspect_data(
        recipe,
        config_layers(values, config),
        manifest=manifest,
        adapters=adapter_overrides(adapter),
        options=adapter_options(option),
        rows=rows,
        start=first - 1,
    )
    _print_head(found, console)
    print_legend(console)
    for row in found.rows:
        print_row(row, console)
    _write(found, html, console)


def _run(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN_DIR")],
    worst: Annotated[int, typer.Option("--worst", min=0, help="How many of the least likely tokens to list.")] = 10,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Also print so many rows.")] = 0,
    step: Annotated[int | None, typer.Option("--step", min=1, help="Only this step.")] = None,
    html: _Html = None,
) -> None:
    """Show what a run trained on, and how likely it was to the model: crucible inspect run runs/first --html seen.html

    The run's tokens/ has the steps that record_every chose.
    """
    from crucible.cli.token_text import largest_gaps, least_likely, print_legend, print_row, steps_table
    from crucible.runtime.inspecting import inspect_run

    console = Terminal()
    found = inspect_run(run_dir)
    chosen = [row for row in found.rows if step is None or row.step == step]
    if step is not None and not chosen:
        steps = ", ".join(str(one) for one in sorted({row.step for row in found.rows if row.step is not None}))
        raise ConfigError.of("this step is not recorded", where="--step", given=str(step), fix=f"Recorded: {steps}")
    found = replace(found, rows=tuple(chosen))
    _print_head(found, console)
    console.print(steps_table(chosen))
    _print_found("Least likely trained tokens", "logprob", least_likely(chosen, worst), console)
    _print_found("Largest gaps between trainer and sampler", "gap", largest_gaps(chosen, worst), console)
    if rows:
        console.print()
        print_legend(console)
    for row in chosen[:rows]:
        print_row(row, console)
    _write(found, html, console)


def _print_head(found: "Inspection", console: Terminal) -> None:
    from crucible.cli.token_text import marks_for, shown

    marks = marks_for(console)
    facts = [found.title, *(f"{name} {value}" for name, value in found.facts.items())]
    console.print(Text(shown(marks.dot.join(facts), marks), style="dim"), soft_wrap=True)
    for note in found.notes:
        console.print(Text(f"note: {shown(note, marks)}", style="yellow"), soft_wrap=True)
    console.print()


def _print_found(title: str, head: str, found: "list[Found]", console: Terminal) -> None:
    from crucible.cli.token_text import tokens_table

    if found:
        console.print(Text(f"\n{title}", style="bold"))
        wide = console.width if console.is_terminal else max(console.width, 160)
        console.print(tokens_table(found, console, head=head), width=wide)


def _write(found: "Inspection", html: Path | None, console: Terminal) -> None:
    if html is None:
        return
    from crucible.framework import write_atomically
    from crucible.runtime.token_page import page

    try:
        write_atomically(html, page(found).encode())
    except OSError as error:
        raise ConfigError.of(f"cannot be written: {error.strerror}", where=str(html)) from error
    console.print(f"\nwrote {html}", soft_wrap=True)
