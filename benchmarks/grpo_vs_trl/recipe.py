"""What does a step of the recipe `rl_basic` cost, with all that a run records? Run by `benchmarks.grpo_vs_trl.run`.

Its own environment draws the same kind of problems and ends an answer at the end of its line, so fewer tokens are
sampled than by the others: a user's step, not the same work.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.grpo_vs_trl.job import (
    GROUP_SIZE,
    GROUPS,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    MAX_TOKENS,
    WARM_UP_STEPS,
    Meter,
    contestant_arguments,
)

import crucible
from crucible.telemetry import Event, attach


def main() -> None:
    """Run the recipe, print the line."""
    args = contestant_arguments(main.__doc__).parse_args()
    meter = Meter()

    def heard(event: Event) -> None:
        numbers = event.measurements
        meter.step(reward=numbers["reward/mean"], tokens=numbers["total_ac_tokens"])

    attach("steps", "training.step", heard)
    config = {
        "model": str(args.model),
        "group_size": GROUP_SIZE,
        "groups_per_batch": GROUPS,
        "max_tokens": MAX_TOKENS,
        "max_steps": args.steps + WARM_UP_STEPS,
        "lora_rank": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "learning_rate": LEARNING_RATE,
        "eval_groups": 0,
    }
    meter.loaded()  # the model is read within the first step, which warms up
    with tempfile.TemporaryDirectory() as scratch:
        crucible.run(
            "rl_basic",
            config,
            manifest="local",
            options={"torch": {"threads": args.threads, "dtype": args.dtype}},
            run_dir=Path(scratch) / "run",
        )
    meter.report(name="ours_recipe", dtype=args.dtype)


if __name__ == "__main__":
    sys.exit(main())
