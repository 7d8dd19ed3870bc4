"""What does an op that does nothing cost in Dagster?

As for a user without a daemon: a job of ops one after the other, executed in this process, with an instance that
records events in SQLite below DAGSTER_HOME. The clock starts in the first op and ends in the last.
"""

import argparse
import json
import os
import tempfile
import time

os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")

from dagster import DagsterInstance, In, Nothing, __version__, job, op

moments: list[float] = []


@op
def first() -> None:
    """Note the time."""
    moments.append(time.perf_counter())


@op(ins={"after": In(Nothing)})
def noop() -> None:
    """Note the time, which is nothing beside what an op costs."""
    moments.append(time.perf_counter())


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    count = parser.parse_args().count

    @job
    def chain() -> None:
        done = first()
        for number in range(count):
            done = noop.alias(f"noop_{number}")(after=done)

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    home = tempfile.TemporaryDirectory(dir=os.environ.get("DAGSTER_HOME"))
    with home as folder, DagsterInstance.local_temp(folder) as instance:
        assert chain.execute_in_process(instance=instance, run_config=quiet).success
    seconds = moments[-1] - moments[0]
    print(json.dumps({"name": f"Dagster {__version__} op", "stage": seconds / count * 1e6}), flush=True)


if __name__ == "__main__":
    main()
