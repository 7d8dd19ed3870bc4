"""How do runs look on a terminal?"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from crucible.cli.runs_words import STATE_STYLES, bytes_of, duration, figure, number, when
from crucible.errors import MissingExtraError
from crucible.runtime.run_compare import Comparison, Difference, terminal_curves
from crucible.runtime.run_retention import RunPlan
from crucible.store.records import Edge, RunContents, RunRecord


def runs_table(runs: Sequence[RunRecord]) -> Table:
    """One line for each run."""
    table = _table("id", "state", "recipe", "step", "loss", "tokens", "time", "started")
    for column in table.columns[3:7]:
        column.justify = "right"
    for column in table.columns[1:]:
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    for run in runs:
        table.add_row(
            Text(run.name),
            Text(run.state, style=STATE_STYLES[run.state]),
            Text(run.recipe),
            _step(run),
            number(run.loss),
            f"{run.tokens:,}",
            duration(run.seconds),
            when(run.started_at),
        )
    return table


def print_run(contents: RunContents, later: Sequence[Edge], run_dir: Path, console: Console) -> None:
    """All that is known of a run. later: what other runs say about it."""
    run = contents.run
    facts = {
        "id": run.name,
        "state": run.state + (f": {run.error}" if run.error else ""),
        "recipe": run.recipe,
        "step": _step(run),
        "loss": number(run.loss),
        "tokens": f"{run.tokens:,}",
        "time": duration(run.seconds),
        "started": when(run.started_at),
        "folder": str(run_dir),
        "damaged": run.warning,
    }
    for label, text in facts.items():
        if text:
            console.print(Text.assemble((f"{label:<12}", "bold"), text))
    _section(console, "config", _config(contents))
    _section(console, "results", _results(contents))
    _section(console, "stages", _stages(contents))
    _section(console, "checkpoints", _checkpoints(contents))
    edges = [*contents.edges, *later]
    _section(console, "lineage", _lineage([edge for edge in edges if edge.relation in ("loads", "of", "is")]))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """What differs, how both ended, and their curves."""
    if comparison.differences:
        table = _table("config", comparison.a, "from", comparison.b, "from")
        for one in comparison.differences:
            table.add_row(Text(one.key), *_side(one, "a"), *_side(one, "b"))
        console.print(table)
    console.print(f"{comparison.equal} config value(s) are equal\n", style="dim")
    outcomes = _table("outcome", comparison.a, comparison.b)
    for name, a, b in comparison.outcomes:
        outcomes.add_row(Text(name), figure(a), figure(b))
    console.print(outcomes)
    try:
        drawn = terminal_curves(comparison, width=console.width)
    except MissingExtraError as error:
        drawn = f"no curves: {error}"
    if drawn:
        console.print()
        console.print(Text(drawn), soft_wrap=True)


def doomed_table(plans: Sequence[RunPlan]) -> Table:
    """One line for each checkpoint that would go."""
    table = _table("run", "checkpoint", "step", "metric", "age", "size")
    for plan in plans:
        for one in plan.doomed:
            step = "-" if one.step is None else f"{one.step:,}"
            age = duration(max(0.0, one.age))
            table.add_row(Text(plan.run_dir.name), Text(one.name), step, number(one.value), age, bytes_of(one.size))
    return table


def _step(run: RunRecord) -> str:
    if run.step is None:
        return "-"
    return f"{run.step:,}" if run.total_steps is None else f"{run.step:,}/{run.total_steps:,}"


def _side(difference: Difference, side: str) -> tuple[Text, Text]:
    entry = difference.a if side == "a" else difference.b
    if entry is None:
        return Text("not set", style="dim"), Text("")
    return Text(repr(entry["value"])), Text(str(entry.get("origin", "")), style="dim")


def _config(contents: RunContents) -> Table:
    table = _table("key", "value", "from")
    for key, entry in contents.run.config.items():
        table.add_row(Text(key), Text(repr(entry["value"])), Text(str(entry.get("origin", "")), style="dim"))
    return table


def _results(contents: RunContents) -> Table:
    table = _table("name", "value")
    for name, value in contents.run.results.items():
        if not isinstance(value, dict | list):
            table.add_row(Text(name), Text(figure(value) if type(value) in (int, float) else str(value)))
    return table


def _stages(contents: RunContents) -> Table:
    table = _table("stage", "times", "failed", "time", "longest")
    for stage in contents.stages:
        table.add_row(
            Text(stage.path),
            f"{stage.finished:,}",
            f"{stage.failed:,}" if stage.failed else "",
            duration(stage.seconds),
            duration(stage.longest),
        )
    return table


def _checkpoints(contents: RunContents) -> Table:
    table = _table("name", "step", "path", "")
    for one in contents.checkpoints:
        note = f"deleted {one.deleted_at[:16]}" if one.deleted_at else "final" if one.final else ""
        path = str(one.record.get("state_path", ""))
        table.add_row(Text(one.name), "-" if one.step is None else f"{one.step:,}", Text(path), Text(note, style="dim"))
    return table


def _lineage(edges: Sequence[Edge]) -> Table:
    table = _table("", "", "")
    table.show_header = False
    for edge in edges:
        target = edge.target[:12] if edge.target_kind == "experiment" else edge.target
        table.add_row(Text(f"{edge.source_kind} {edge.source}"), edge.relation, Text(f"{edge.target_kind} {target}"))
    return table


def _section(console: Console, title: str, table: Table) -> None:
    if table.row_count:
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table, width=console.width if console.is_terminal else max(console.width, 160))


def _table(*heads: str) -> Table:
    return Table(*(Column(header=Text(head)) for head in heads), box=None, pad_edge=False, header_style="bold")
