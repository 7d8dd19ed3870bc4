"""`crucible plan RECIPE`: what would a run do and cost?"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

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
from crucible.kitchen.plan import Plan
from crucible.kitchen.rl_plan import RLPlan
from crucible.ports.training_client import Estimate
from crucible.runtime.parity import ParityRecord, differences, parity_record, read_record, write_record
from crucible.telemetry.terminal import Terminal
from crucible.train.data import DataSurvey


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command("plan")
    def plan(  # pyright: ignore[reportUnusedFunction]  (typer keeps it)
        recipe: RecipeName,
        values: Values = None,
        config: ConfigFile = None,
        manifest: ManifestName = "default",
        record: Annotated[
            Path | None,
            typer.Option(
                "--record",
                help="Write config, a hash of the data and the tokens of the first batch there, to compare with later.",
                metavar="DIR",
            ),
        ] = None,
        against: Annotated[
            Path | None,
            typer.Option(
                "--against", help="Compare with what --record wrote there; exits with 2 if it differs.", metavar="DIR"
            ),
        ] = None,
        option: Options = None,
        adapter: Adapters = None,
    ) -> None:
        """Count steps, tokens and checkpoints, and estimate memory and time, before anything runs."""
        from crucible.runtime.planning import plan as make

        console = Terminal()
        layers, adapters, options = config_layers(values, config), adapter_overrides(adapter), adapter_options(option)
        recorded = None if against is None else read_record(against)
        with console.status("reading and rendering the data"):
            found = make(recipe, layers, manifest=manifest, adapters=adapters, options=options)
            now = None
            if record is not None or recorded is not None:
                now = parity_record(recipe, layers, manifest=manifest, adapters=adapters, options=options)
        if isinstance(found, RLPlan):
            _print_rl(found, console)
        else:
            _print(found, console)
        if now is not None and record is not None:
            write_record(now, record)
            console.print(f"\nrecorded in {record}", highlight=False, soft_wrap=True)
        if now is not None and recorded is not None:
            _compare(recorded, now, console)


def _compare(recorded: ParityRecord, now: ParityRecord, console: Terminal) -> None:
    found = differences(recorded, now)
    console.print()
    for sentence in found:
        console.print(f"differs: {sentence}", style="red", highlight=False, soft_wrap=True)
    if found:
        raise typer.Exit(2)
    console.print("the same config, data and first batch as recorded")


def _print(plan: Plan, console: Terminal) -> None:
    table = Table("", "train", "held-out", box=None, pad_edge=False, header_style="bold")
    for label, read in _ROWS.items():
        table.add_row(label, f"{read(plan.train):,}", f"{read(plan.heldout):,}" if plan.heldout else "-")
    console.print(
        f"model {plan.model} · renderer {plan.renderer} · rows read as {plan.row_format}\n",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    for name, survey in (("train", plan.train), ("held-out", plan.heldout)):
        for reason, rows in survey.dropped.items() if survey else ():
            console.print(
                f"  {name}: {rows.count} row(s) dropped: {reason}; first: {rows.first_origin}", soft_wrap=True
            )
    if plan.train.surveyed < plan.train.rows:
        console.print(f"  counted on the first {plan.train.surveyed:,} rows; the rest is taken to be like them")
    batches = f" ({plan.batches_per_epoch:,} batches per epoch)" if plan.batches_per_epoch else ""
    calls = f", {plan.calls_per_step} forward_backward calls each" if plan.calls_per_step > 1 else ""
    console.print(f"\nsteps            {plan.steps:,}{batches}{calls}", highlight=False)
    console.print(f"input tokens     {plan.tokens:,}, of which {plan.trained_tokens:,} trained", highlight=False)
    console.print(f"checkpoints      {plan.checkpoints}", highlight=False)
    _print_cost(plan.estimate, plan.checkpoints_kept, console)


def _print_rl(plan: RLPlan, console: Terminal) -> None:
    shortest, mean, longest = plan.prompt_tokens
    context = f", in a context of {plan.context_length:,}" if plan.context_length else ""
    lines = {
        "model": plan.model,
        "environment": f"{plan.env}, {plan.problems:,} problems in one pass",
        "prompts": f"{shortest:,} to {longest:,} tokens, {mean:.1f} on average, of the first {plan.measured:,}",
        "answers": f"up to {plan.max_tokens:,} tokens a turn{context}",
        "steps": f"{plan.steps:,}, each of {plan.groups_per_step:,} groups of {plan.group_size:,}",
        "rollouts": f"{plan.rollouts:,}",
        "sampled tokens": f"at most {plan.sampled_tokens:,} in first turns",
        "trained tokens": f"at most {plan.trained_tokens:,}, prompts included",
        "checkpoints": f"{plan.checkpoints}",
    }
    for name, told in lines.items():
        console.print(f"{name:<16} {told}", highlight=False, soft_wrap=True)
    if plan.estimate is not None:
        console.print("of training alone, were every answer as long as it may be; sampling comes on top:", style="dim")
    _print_cost(plan.estimate, plan.checkpoints_kept, console)


def _print_cost(estimate: Estimate | None, checkpoints_kept: int, console: Terminal) -> None:
    if estimate is None:
        console.print("time and memory  this backend does not say", highlight=False)
        return
    console.print(f"trainable        {estimate.trainable_parameters:,} parameters", highlight=False)
    console.print(f"time             about {_duration(estimate.seconds)}", highlight=False)
    console.print(f"memory           about {estimate.memory_bytes / 2**30:.1f} GiB", highlight=False)
    size = checkpoints_kept * estimate.checkpoint_bytes
    console.print(f"disk             about {size / 2**20:,.0f} MiB of checkpoints", highlight=False)
    console.print(f"                 ({estimate.basis})", style="dim", highlight=False)


_ROWS: dict[str, Callable[[DataSurvey], int]] = {
    "rows": lambda rows: rows.rows,
    "rows rendered": lambda rows: rows.rendered,
    "tokens": lambda rows: rows.tokens,
    "  trained": lambda rows: rows.tokens_trained,
    "  dropped": lambda rows: rows.tokens_dropped,
    "  cut off by max_length": lambda rows: rows.tokens_truncated,
    "rows dropped": lambda rows: sum(dropped.count for dropped in rows.dropped.values()),
    "rows cut by max_length": lambda rows: rows.truncated,
    "longest row (tokens)": lambda rows: rows.lengths.max if rows.lengths else 0,
}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
