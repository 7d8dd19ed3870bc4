"""What does a no-op stage cost here, and in Prefect?

.venv/bin/python -m benchmarks.noop_stage_run --repeats 3
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.contest import (
    REPOSITORY,
    Contestant,
    Spread,
    machine,
    make_venv,
    markdown,
    say,
    take_turns,
    warn_if_busy,
    write_report,
)

LIMIT_MICROSECONDS = 100.0
OURS, PEER = "crucible", "prefect"


def main() -> int:
    """Measure, print the table; 1 if a stage of ours costs more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "noop_stage.json")
    args = parser.parse_args()
    requirements = REPOSITORY / "benchmarks" / "requirements-peer.txt"
    peer = make_venv(REPOSITORY / "benchmarks" / ".venv-peer", requirements)
    warn_if_busy()
    about = machine()
    with tempfile.TemporaryDirectory() as home:
        quiet = {
            "PREFECT_HOME": home,
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        lines = take_turns(
            [
                Contestant(key=OURS, python=REPOSITORY / ".venv" / "bin" / "python", module="benchmarks.noop_stage"),
                Contestant(key=PEER, python=peer, module="benchmarks.noop_stage_peer", environment=quiet),
            ],
            repeats=args.repeats,
            timeout=300,
        )
    costs = {key: Spread.of([run["microseconds_per_stage"] for run in runs]) for key, runs in lines.items()}
    rows = [
        [str(lines[key][0]["name"]), cost.shown(1), f"{cost.median / costs[OURS].median:.1f}x"]
        for key, cost in costs.items()
    ]
    print(markdown(["no-op stage", "microseconds, median (range)", "to ours"], rows))
    write_report(args.out, {"machine": about, "runs": lines})
    if costs[OURS].median >= LIMIT_MICROSECONDS:
        say(f"FAILED: the limit is {LIMIT_MICROSECONDS:.0f} microseconds")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
