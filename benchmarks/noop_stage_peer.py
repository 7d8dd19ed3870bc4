"""What does a task that does nothing cost in Prefect?

Prefect is the faster of the two workflow engines that were considered (Dagster: about 31 ms per op). It runs
here as it does for a user without a server: an ephemeral one, in memory and SQLite, started by the first flow.
The clock starts inside a flow that has already run tasks, so starting that server is not counted.
"""

import argparse
import json
import time

from prefect import __version__ as prefect_version
from prefect import flow, task


@task
def noop() -> None:
    """Nothing."""


@flow
def many(count: int) -> float:
    """Seconds for `count` tasks, one after the other."""
    began = time.perf_counter()
    for _ in range(count):
        noop()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    args = parser.parse_args()
    many(10)
    seconds = many(args.count)
    line = {"name": f"prefect {prefect_version}", "count": args.count, "seconds": seconds}
    line["microseconds_per_stage"] = seconds / args.count * 1e6
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
