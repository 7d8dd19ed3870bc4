"""Does a run that is killed again and again, for real, come to the bytes of one that never was?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from countdown import countdown

import crucible
from crucible.framework import runner
from crucible.runtime.verify_resume import Job, Verification, verify_resume

TRAINING = {"batch_size": 4, "eval_rows": 4, "max_length": 128, "lora_rank": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "one step at a time": {"pipeline_depth": 0, "max_steps": 14, "save_every": 3, "epochs": 2},
    "epochs and accumulation": {
        "pipeline_depth": 1,
        "epochs": 3,
        "save_every": 4,
        "eval_every": 5,
        "gradient_accumulation_steps": 2,
    },
    "three ahead, streaming": {"pipeline_depth": 3, "streaming": True, "epochs": 2, "save_every": 3, "max_steps": 16},
}


def killed(
    model: Path, rows: Path, folder: Path, config: Mapping[str, Any], *, kills: int, **options: Any
) -> Verification:
    job = Job(
        work=crucible.build_spec("sl_basic", {**TRAINING, "model": str(model), "dataset": str(rows), **config}),
        options={"manifest": "local", "options": {"torch": {"threads": 1}}},
        **options,
    )
    found = verify_resume(job, kills=kills, seed=kills, folder=folder, tell=print)
    assert len(found.kills) == kills
    return found


def recomputed(found: Verification) -> int:
    return max(kill.recomputed for kill in found.kills)


def test_a_handful_of_kills_changes_no_byte(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    config = VARIANTS["epochs and accumulation"]
    found = killed(tiny_model, rows, tmp_path, config, kills=4)
    assert found.differences == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_many_kills_change_no_byte(variant: str, tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    found = killed(tiny_model, rows, tmp_path, VARIANTS[variant], kills=12)
    assert found.differences == []
    aimed = [kill for kill in found.kills if kill.aim.target != "time"]
    assert 3 * len(aimed) >= len(found.kills)
    evaluations = 2 + (14 // config["eval_every"] if (config := VARIANTS[variant]).get("eval_every") else 0)
    assert recomputed(found) <= config["save_every"] + evaluations


def test_a_workflow_of_no_recipe_survives_being_killed(tmp_path: Path) -> None:
    found = verify_resume(
        Job(work=countdown(), options={"manifest": "local"}), kills=6, seed=1, folder=tmp_path, stages=("advance",)
    )
    assert found.differences == [] and recomputed(found) <= 7


def broken_cursor() -> None:
    """Continue every loop one item too early, as a system does that replays the batch it had checkpointed."""
    right = runner.Runner.items

    def wrong(self: Any, loop: Any, path: str, scope: Any, start: int) -> Any:
        return right(self, loop, path, scope, max(0, start - 1))

    runner.Runner.items = wrong  # only in the child that this is called in


def test_the_test_fails_when_the_cursor_is_broken(tmp_path: Path) -> None:
    job = Job(work=countdown(), options={"manifest": "local"}, prepare=broken_cursor)
    found = verify_resume(job, kills=6, seed=1, folder=tmp_path, stages=("advance",))
    assert any(name.endswith("metrics.jsonl") for name in found.differences)
