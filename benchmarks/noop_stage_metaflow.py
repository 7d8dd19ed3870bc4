"""What does a step that does nothing cost in Metaflow?

As for a user without a service: metadata and artifacts in local folders. Each step is a process of its own, which
Metaflow starts; the cost is the time from one step's start to the next one's. Without arguments, this runs the flow
and prints the JSON line.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import mean

import metaflow
from metaflow import FlowSpec, step


class Noop(FlowSpec):
    """Four steps that note when they start."""

    @step
    def start(self):
        """The first."""
        self.moments = [time.time()]
        self.next(self.second)

    @step
    def second(self):
        """Another."""
        self.moments = [*self.moments, time.time()]
        self.next(self.third)

    @step
    def third(self):
        """Another."""
        self.moments = [*self.moments, time.time()]
        self.next(self.end)

    @step
    def end(self):
        """The last: tell the times."""
        Path(os.environ["NOOP_TIMES"]).write_text(json.dumps([*self.moments, time.time()]))


def main() -> None:
    """Run the flow, print the JSON line."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("METAFLOW_HOME")) as home:
        times = Path(home) / "times.json"
        environment = {
            **os.environ,
            "NOOP_TIMES": str(times),
            "USERNAME": "benchmark",
            "METAFLOW_HOME": home,
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": home,
        }
        subprocess.run([sys.executable, __file__, "--quiet", "run"], env=environment, cwd=home, check=True)
        moments = json.loads(times.read_text())
    seconds = mean(later - earlier for earlier, later in pairwise(moments))
    print(json.dumps({"name": f"Metaflow {metaflow.__version__} step", "stage": seconds * 1e6}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Noop()
    else:
        main()
