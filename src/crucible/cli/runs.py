"""`crucible runs`: which runs are there, how do they differ, and what of them may go?"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crucible.cli.runs_words import DURATION, bytes_of, record_json
from crucible.errors import ConfigError
from crucible.telemetry.terminal import Terminal

if TYPE_CHECKING:
    from crucible.runtime.run_store import RunStore

_RunsDir = Annotated[
    Path | None, typer.Option("--runs-dir", help="The folder that the runs are in; runs by default.", metavar="DIR")
]
_StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store: sqlite:///FILE, postgresql+psycopg://..., or none. CRUCIBLE_STORE_URL, else DIR/runs.db.",
        metavar="URL",
    ),
]
_RunId = Annotated[str, typer.Argument(help="A run's id, the beginning of one, or a run folder.", metavar="ID")]


@dataclass(frozen=True)
class _Where:
    """What the options before the subcommand said."""

    runs_dir: Path | None
    store: str | None

    def with_own(self, runs_dir: Path | None, store: str | None) -> tuple[Path, str | None]:
        """The subcommand's own options win."""
        return runs_dir or self.runs_dir or Path("runs"), store or self.store


def register(app: typer.Typer) -> None:
    """Add the commands."""
    runs = typer.Typer(
        invoke_without_command=True,
        help="List the runs of a folder; show, compare and tidy them.",
        epilog="Each run's folder is the truth; the store is an index of it, brought up to date as it is read.",
    )
    runs.callback()(_list)
    runs.command("show")(_show)
    runs.command("compare")(_compare)
    runs.command("gc")(_gc)
    runs.command("reindex")(_reindex)
    app.add_typer(runs, name="runs")


def _list(
    ctx: typer.Context,
    runs_dir: _RunsDir = None,
    store: _StoreUrl = None,
    state: Annotated[
        str | None,
        typer.Option("--state", help="Only runs in this state: running, completed, failed, interrupted or killed."),
    ] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Only runs of this recipe.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only this many, the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: every field of every run.")] = False,
) -> None:
    """List the runs of a folder, the newest first: crucible runs --state completed --limit 10"""
    ctx.obj = _Where(runs_dir, store)
    if ctx.invoked_subcommand is not None:
        return
    from crucible.store.records import STATES

    if state is not None and state not in STATES:
        raise ConfigError.of(f"a run's state is one of {', '.join(STATES)}", where="--state", given=state)
    with _open(ctx, None, None) as opened:
        found = opened.runs(state=state, recipe=recipe, limit=limit)
    if as_json:
        typer.echo(json.dumps([record_json(run) for run in found], indent=2))
        return
    from crucible.cli.runs_tables import runs_table

    console = Terminal()
    if not found:
        console.print(f"no such runs in {opened.folder}", soft_wrap=True)
        return
    console.print(runs_table(found), width=console.width if console.is_terminal else max(console.width, 160))


def _show(
    ctx: typer.Context,
    run: _RunId,
    runs_dir: _RunsDir = None,
    store: _StoreUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one run: config, outcome, stages, checkpoints, and what it came from: crucible runs show sl_basic-2026"""
    from crucible.cli.runs_tables import print_run
    from crucible.runtime.run_store import locate

    folder, url = ctx.obj.with_own(runs_dir, store)
    opened, name = locate(run, folder, url=url)
    with opened:
        contents, later = opened.contents(name), opened.index.edges_into(name)
    if as_json:
        typer.echo(json.dumps(record_json(contents.run), indent=2))
        return
    print_run(contents, later, opened.folder / name, Terminal(soft_wrap=True))


def _compare(
    ctx: typer.Context,
    a: _RunId,
    b: _RunId,
    runs_dir: _RunsDir = None,
    store: _StoreUrl = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Whose curves; may be repeated. loss and the evaluations by default."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page with the pictures; it needs no other file.", metavar="FILE"),
    ] = None,
) -> None:
    """Compare two runs: what differs in their configs and where it came from, their outcomes, their curves."""
    from crucible.cli.runs_tables import print_comparison
    from crucible.framework.atomic import write_atomically
    from crucible.runtime.run_compare import compare
    from crucible.runtime.run_compare_page import page
    from crucible.runtime.run_store import locate

    folder, url = ctx.obj.with_own(runs_dir, store)
    both: list[Any] = []
    for reference in (a, b):
        opened, name = locate(reference, folder, url=url)
        with opened:
            both.append(opened.contents(name))
    comparison = compare(*both, metrics=metric or ())
    console = Terminal()
    print_comparison(comparison, console)
    if html is not None:
        try:
            write_atomically(html, page(comparison).encode())
        except OSError as error:
            raise ConfigError.of(f"cannot be written: {error.strerror}", where=str(html)) from error
        console.print(f"\nwrote {html}", soft_wrap=True)


def _gc(
    ctx: typer.Context,
    keep_best: Annotated[
        int | None, typer.Option("--keep-best", min=0, help="Of each run, keep this many of the best checkpoints.")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="What is best: a metric recorded at the checkpoint's step; lower is better.")
    ] = "eval/nll",
    higher: Annotated[bool, typer.Option("--higher-is-better", help="Of the metric, higher is better.")] = False,
    ttl: Annotated[
        str | None, typer.Option("--ttl", help="Keep what is younger than this: 45m, 12h, 7d, 2w.", metavar="TIME")
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Only those older than the checkpoint_ttl that they were saved with.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete. Without it, nothing is touched.")] = False,
    runs_dir: _RunsDir = None,
    store: _StoreUrl = None,
) -> None:
    """Say which checkpoints may go, and with --apply delete them: crucible runs gc --keep-best 3 --ttl 7d

    What either option keeps, stays. These always stay: final checkpoints; the newest

    ones of a run that is not complete, since a resume needs them; those that another

    run started from; all of a run that is running.
    """
    from crucible.cli.runs_tables import doomed_table
    from crucible.runtime.run_retention import Policy, plan_all
    from crucible.runtime.run_retention import apply as delete

    policy = Policy(keep_best=keep_best, metric=metric, higher_is_better=higher, ttl=_seconds(ttl), expired=expired)
    console = Terminal()
    with _open(ctx, runs_dir, store) as opened:
        plans = plan_all(opened, policy)
        for plan in plans:
            if plan.note:
                console.print(f"{plan.run_dir.name}: nothing goes: {plan.note}", style="dim", soft_wrap=True)
        doomed = [plan for plan in plans if plan.doomed]
        if not doomed:
            console.print("no checkpoint may go")
            return
        console.print(doomed_table(doomed))
        count, size = sum(len(plan.doomed) for plan in doomed), sum(plan.size for plan in doomed)
        if not apply:
            console.print(f"would delete {count} checkpoint(s), {bytes_of(size)}; --apply does it")
            return
        try:
            freed = {plan.run_dir.name: delete(plan) for plan in doomed}
        except OSError as error:
            raise ConfigError.of(f"cannot be deleted: {error.strerror}", where=str(error.filename)) from error
        opened.refresh()
    for name in (name for name, size in freed.items() if not size):
        console.print(f"{name}: left alone: it has changed meanwhile", style="dim", soft_wrap=True)
    console.print(f"deleted {bytes_of(sum(freed.values()))}; each run's retention.jsonl says what", soft_wrap=True)


def _reindex(ctx: typer.Context, runs_dir: _RunsDir = None, store: _StoreUrl = None) -> None:
    """Make the index again from the run folders: crucible runs reindex"""
    from crucible.runtime.run_store import reindex

    folder, url = ctx.obj.with_own(runs_dir, store)
    found = reindex(folder, url)
    damaged = f", {len(found.warnings)} of them damaged" if found.warnings else ""
    Terminal().print(f"indexed {found.runs} run(s) of {folder}{damaged}", soft_wrap=True)


def _open(ctx: typer.Context, runs_dir: Path | None, store: str | None) -> "RunStore":
    from crucible.runtime.run_store import RunStore

    folder, url = ctx.obj.with_own(runs_dir, store)
    return RunStore(folder, url=url)


def _seconds(ttl: str | None) -> float | None:
    if ttl is None:
        return None
    found = DURATION.fullmatch(ttl.strip())
    if found is None:
        raise ConfigError.of("is no time", where="--ttl", given=ttl, fix="Give a number and s, m, h, d or w: 7d")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]
