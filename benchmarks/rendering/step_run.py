"""What does a training step take when its batch is rendered, when it was rendered before, and when rendering is slow?

A real run of sl_basic in this process, whose steps take turns in how their batch is rendered. Run by
`benchmarks.rendering.step_time`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import crucible
from crucible.telemetry import Event, attach
from crucible.train.data import BatchRows, RenderedBatch, SupervisedDataset

WARM_UP_STEPS = 3
SLOW = 100
"""How many times a slow rendering renders: the cost of long conversations, or of a slow renderer."""
KINDS = ("free", "rendered", "slow")


class Steps:
    """How each step's batch is rendered, and what each step took.

    Batch n is rendered as kind n modulo 3. A free one is rendered when the first batch is asked for, before the clock.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.seconds: dict[int, float] = {}
        self.rendering: dict[int, float] = {}
        self._rendered: dict[int, RenderedBatch] = {}
        self._really = SupervisedDataset.render

    def render(self, dataset: SupervisedDataset, batch: BatchRows) -> RenderedBatch:
        """In the place of `SupervisedDataset.render`."""
        if not self._rendered:
            batches = list(dataset.epoch(batch.epoch))
            self._rendered = {
                one.index: self._really(dataset, one) for one in batches if self.kind(one.index) == "free"
            }
        kind, began = self.kind(batch.index), time.perf_counter()
        if kind == "free":
            rendered = self._rendered[batch.index]
        else:
            for _ in range(SLOW - 1 if kind == "slow" else 0):
                self._really(dataset, batch)
            rendered = self._really(dataset, batch)
        self.rendering[batch.index] = time.perf_counter() - began
        return rendered

    def kind(self, index: int) -> str:
        """Of the batch with that index."""
        return KINDS[index % len(KINDS)]

    def heard(self, event: Event) -> None:
        """Note what a step took, from when the one before it was done."""
        self.seconds[int(event.measurements["step"]) - 1] = event.measurements["seconds"]

    def by_kind(self, depth: int) -> Mapping[str, list[float]]:
        """Seconds of the steps during which a batch of each kind was rendered: at depth 1 the next step's batch."""
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for index, seconds in self.seconds.items():
            if WARM_UP_STEPS <= index < self.count - 1:
                found[self.kind(index + depth)].append(seconds)
        return found


def main() -> None:
    """Run, and print the line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--depth", type=int, choices=(0, 1), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", required=True)
    args = parser.parse_args()
    steps = Steps(args.steps)
    attach("steps", "training.step", steps.heard)
    SupervisedDataset.render = lambda dataset, batch: steps.render(dataset, batch)
    config = {"dataset": str(args.data), "batch_size": 4, "max_length": 256, "eval_rows": 0, "max_steps": args.steps}
    with tempfile.TemporaryDirectory() as folder:
        crucible.run(
            "sl_basic",
            {**config, "pipeline_depth": args.depth},
            manifest="local",
            options={"torch": {"threads": args.threads, "dtype": args.dtype}},
            run_dir=Path(folder) / "run",
        )
    rendering = {
        kind: [seconds for index, seconds in steps.rendering.items() if steps.kind(index) == kind] for kind in KINDS
    }
    print(json.dumps({"depth": args.depth, "step": steps.by_kind(args.depth), "rendering": rendering}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
