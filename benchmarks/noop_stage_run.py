"""What does a no-op stage cost here, and in Prefect, Dagster and Metaflow?

    .venv/bin/python -m benchmarks.noop_stage_run --repeats 5

The contestants take turns; all keep their records on the disk that the repository lies on.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.contest import (
    CACHE,
    REPOSITORY,
    Contestant,
    Line,
    Spread,
    machine,
    make_venv,
    markdown,
    say,
    take_turns,
    warn_if_busy,
    write_report,
)

STAGE_LIMIT, LOOPED_LIMIT = 150.0, 100.0
"""Microseconds: a stage with its journal record; a stage within a loop."""
CHEAPER_THAN_METAFLOW = 1000
OURS, PEERS = "crucible", ("prefect", "dagster", "metaflow")
KINDS = {
    "stage": "a stage with its record in the journal",
    "changing_stage": "one that changes a durable slot",
    "looped_stage": "a stage within a loop",
    "step": "a step's stage: metrics row, event, console",
}


def contestants(home: str) -> list[Contestant]:
    """home: a folder on the same disk, where the peers keep their records."""
    python = make_venv(REPOSITORY / "benchmarks" / ".venv-peer", REPOSITORY / "benchmarks" / "requirements-peer.txt")
    quiet = {
        "PREFECT_HOME": home,
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DAGSTER_HOME": home,
        "METAFLOW_HOME": home,
        "DO_NOT_TRACK": "1",
    }
    ours = Contestant(key=OURS, python=REPOSITORY / ".venv" / "bin" / "python", module="benchmarks.noop_stage")
    peers = [
        Contestant(key=key, python=python, module=f"benchmarks.noop_stage_{key}", environment=quiet) for key in PEERS
    ]
    return [ours, *peers]


def rows_of(lines: dict[str, list[Line]]) -> list[list[str]]:
    """Every kind of our stages, then the peers, each beside our journalled stage."""
    cost = {kind: Spread.of([run[kind] for run in lines[OURS]]) for kind in KINDS}
    ours = cost["stage"].median
    rows = [[f"{lines[OURS][0]['name']}: {words}", cost[kind].shown(1), ""] for kind, words in KINDS.items()]
    for key in PEERS:
        theirs = Spread.of([run["stage"] for run in lines[key]])
        rows.append([str(lines[key][0]["name"]), theirs.shown(), f"{theirs.median / ours:,.0f}x"])
    return rows


def failures(lines: dict[str, list[Line]]) -> list[str]:
    """The limits that were not kept."""
    median = {kind: Spread.of([run[kind] for run in lines[OURS]]).median for kind in KINDS}
    metaflow = Spread.of([run["stage"] for run in lines["metaflow"]]).median
    kept = {
        f"a journalled stage takes {STAGE_LIMIT:.0f} microseconds at most": median["stage"] <= STAGE_LIMIT,
        f"a looped stage takes {LOOPED_LIMIT:.0f} microseconds at most": median["looped_stage"] <= LOOPED_LIMIT,
        f"Metaflow's step takes {CHEAPER_THAN_METAFLOW:,} times as long": metaflow
        >= CHEAPER_THAN_METAFLOW * median["stage"],
    }
    return [limit for limit, holds in kept.items() if not holds]


def main() -> int:
    """Measure, print the table; 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "noop_stage.json")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as home:
        turns = contestants(home)
        warn_if_busy()
        about = machine()
        lines = take_turns(turns, repeats=args.repeats, timeout=300)
    print(markdown(["no-op", "microseconds, median (range)", "to our journalled stage"], rows_of(lines)))
    write_report(args.out, {"machine": about, "runs": lines})
    broken = failures(lines)
    for limit in broken:
        say(f"FAILED: {limit}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
