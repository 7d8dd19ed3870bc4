"""How is RL run in a test? The recipe `rl_basic` on a model of a few thousand weights that copies letters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import crucible
from crucible.framework import RunResult

SMALL: Mapping[str, Any] = {
    "env": "letters:copy",
    "max_tokens": 1,
    "group_size": 4,
    "groups_per_batch": 4,
    "max_steps": 4,
    "learning_rate": 3e-3,
    "lora_rank": 4,
    "eval_groups": 0,
}
"""About a second of one core."""


def run_rl(model: Path, run_dir: Path, **config: Any) -> RunResult:
    """A small run on the embedded engine, in one thread."""
    values = {**SMALL, "model": str(model), **config}
    result = crucible.run("rl_basic", values, run_dir=run_dir, options={"torch": {"threads": 1}})
    assert isinstance(result, RunResult)
    return result


def steps_of(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of the steps, evaluations left out."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "reward/mean" in row]
