"""`crucible inspect`: what will the model see of these rows, and what did it see in that run?"""

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
    from crucible.runtime.token_rows import Inspection, RolloutsView

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

    Trained tokens are coloured, or stand in brackets where there are no colours. Of a recipe that learns from rewards:
    the prompts of its first problems, what ends an answer, and a right one where the environment knows it.
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
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Also print so many rows, or rollouts.")] = 0,
    step: Annotated[int | None, typer.Option("--step", min=0, help="Only this step.")] = None,
    html: _Html = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the tree of an RL run's rollouts.", metavar="FILE")
    ] = None,
) -> None:
    """Show what a run trained on, and how likely it was to the model: crucible inspect run runs/first --html seen.html

    The run's tokens/ has the steps that record_every chose. Of a run of reinforcement learning: its rollouts, with
    their rewards, verdicts and advantages; --rows prints those with the lowest rewards.
    """
    from crucible.cli.rollout_text import lowest_rollouts, print_rollout
    from crucible.cli.token_text import largest_gaps, least_likely, print_legend, print_row, steps_table
    from crucible.runtime.inspecting import inspect_run

    console = Terminal()
    found = inspect_run(run_dir, step=step)
    if json is not None and found.rollouts is None:
        fix = "Use --html for its tokens"
        raise ConfigError.of("this run sampled no rollouts, so there is no tree of them", where="--json", fix=fix)
    _print_head(found, console)
    if found.rollouts is None:
        console.print(steps_table(found.rows))
    else:
        _print_rollouts(found.rollouts, console)
    _print_found("Least likely trained tokens", "logprob", least_likely(found.rows, worst), console)
    _print_found("Largest gaps between trainer and sampler", "gap", largest_gaps(found.rows, worst), console)
    if found.rollouts is not None:
        for rollout in lowest_rollouts([found.rollouts.last] if step is None else found.rollouts.steps, rows):
            print_rollout(rollout, console)
    elif rows:
        console.print()
        print_legend(console)
        for row in found.rows[:rows]:
            print_row(row, console)
    _write(found, html, console)
    _write_tree(found, json, console)


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


def _print_rollouts(rollouts: "RolloutsView", console: Terminal) -> None:
    from crucible.cli.rollout_text import groups_table, rollout_steps_table

    wide = console.width if console.is_terminal else max(console.width, 160)
    console.print(rollout_steps_table(rollouts.curve), width=wide)
    last = rollouts.last
    named = f"step {last.step:,}" if last.purpose == "step" else f"the evaluation after step {last.step:,}"
    console.print(Text(f"\nGroups of {named}", style="bold"))
    console.print(groups_table(last, console), width=wide)


def _write(found: "Inspection", html: Path | None, console: Terminal) -> None:
    if html is None:
        return
    from crucible.runtime.token_page import page

    _write_file(html, page(found).encode(), console)


def _write_tree(found: "Inspection", json: Path | None, console: Terminal) -> None:
    if json is None:
        return
    assert found.rollouts is not None, "checked before anything was printed"
    from crucible.runtime.rollout_tree_file import tree_file

    _write_file(json, tree_file(found, found.rollouts), console)


def _write_file(path: Path, content: bytes, console: Terminal) -> None:
    from crucible.framework import write_atomically

    try:
        write_atomically(path, content)
    except OSError as error:
        raise ConfigError.of(f"cannot be written: {error.strerror}", where=str(path)) from error
    console.print(f"\nwrote {path}", soft_wrap=True)
