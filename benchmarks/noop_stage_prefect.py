"""What does a task that does nothing cost in Prefect?

As for a user without a server: an ephemeral one with SQLite, started by the first flow. The clock starts inside a
flow, after another one has run tasks, so starting that server is not counted.
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
    count = parser.parse_args().count
    many(10)
    print(json.dumps({"name": f"Prefect {prefect_version} task", "stage": many(count) / count * 1e6}), flush=True)


if __name__ == "__main__":
    main()
