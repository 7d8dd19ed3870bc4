"""Does an RL run that is killed again and again come to the bytes of one that never was? In all modes."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import crucible
from crucible.runtime.verify_resume import Job, Verification, verify_resume
from crucible.train.rl.record import read_rollouts, rollouts_file, write_rollouts
from crucible.train.rl.types import GroupReward, TrajectoryGroup
from rl_letters import write_letter_model
from rl_runs import SMALL, steps_of

CONFIG = {**SMALL, "max_steps": 9, "save_every": 3, "eval_groups": 2, "eval_every": 4}
MODES: dict[str, dict[str, Any]] = {
    "in turn": {},
    "minibatches as they come": {"stream_minibatches": 2},
    "two steps ahead": {"max_steps_off_policy": 2},
    "substeps, a penalty and other groups": {"num_substeps": 2, "kl_coef": 0.1, "dynamic_sampling": 3},
    "minibatches one step ahead": {"max_steps_off_policy": 1, "stream_minibatches": 2, "keep_checkpoints": 2},
}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letter_model(tmp_path_factory.mktemp("models") / "letters")


def killed(letters: Path, folder: Path, config: Mapping[str, Any], *, kills: int) -> Verification:
    work = crucible.build_spec("rl_basic", {**CONFIG, "model": str(letters), **config})
    job = Job(work=work, options={"manifest": "local", "options": {"torch": {"threads": 1}}})
    stages = ("start_rollouts", "forward_backward", "optim_step", "save_policy")
    return verify_resume(job, kills=kills, seed=kills, folder=folder, stages=stages, tell=print)


@pytest.mark.parametrize("mode", ["in turn", "two steps ahead"])
def test_a_few_kills_change_no_byte(mode: str, letters: Path, tmp_path: Path) -> None:
    found = killed(letters, tmp_path, MODES[mode], kills=3)
    assert found.differences == [] and len(found.kills) == 3


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_many_kills_change_no_byte(mode: str, letters: Path, tmp_path: Path) -> None:
    found = killed(letters, tmp_path, MODES[mode], kills=9)
    assert found.differences == [] and len(found.kills) == 9


KILLED = """
import os, signal, sys
from crucible.__main__ import main
from crucible.telemetry import default_bus

steps = []

def listen(event):
    steps.append(event)
    if len(steps) == 8:
        os.kill(os.getpid(), signal.SIGKILL)

default_bus().attach("kill", "training.step", listen)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("schedule", ["exact", "opportunistic"])
def test_rollouts_that_were_recorded_are_not_sampled_again(schedule: str, letters: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = {**CONFIG, "model": letters, "max_steps_off_policy": 1, "schedule": schedule}
    run_until_killed(run, config)
    drawn = read_rollouts(rollouts_file(run, 8))  # its checkpoint is of step 6
    marked = [with_group_reward(group, 7.0) for group in drawn.groups]
    write_rollouts(run, 8, marked, drawn_as=drawn.drawn_as)
    crucible.resume(run)
    assert [row["step"] for row in steps_of(run)] == list(range(1, 10))
    assert steps_of(run)[7]["reward/mean"] > 6.0


@pytest.mark.parametrize("schedule", ["exact", "opportunistic"])
def test_rollouts_that_other_settings_have_drawn_are_sampled_again(
    schedule: str, letters: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    config = {**CONFIG, "model": letters, "max_steps_off_policy": 1, "schedule": schedule}
    run_until_killed(run, config)
    drawn = read_rollouts(rollouts_file(run, 8))
    write_rollouts(run, 8, [with_group_reward(group, 7.0) for group in drawn.groups], drawn_as=drawn.drawn_as)
    changed = {**config, "model": str(letters), "max_tokens": 2}
    options = {"torch": {"threads": 1}}
    crucible.run("rl_basic", changed, manifest="local", options=options, run_dir=run, allow_change=["max_tokens"])
    assert steps_of(run)[7]["reward/mean"] < 6.0


def run_until_killed(run: Path, config: Mapping[str, object]) -> None:
    """Its eighth step is the last that is done."""
    words = [f"{key}={value}" for key, value in config.items()]
    command = ["run", "rl_basic", *words, "--manifest", "local", "-o", "torch.threads=1", "--run-dir", str(run)]
    died = subprocess.run([sys.executable, "-c", KILLED, *command], capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr


def with_group_reward(group: TrajectoryGroup, reward: float) -> TrajectoryGroup:
    """Something by which one knows the record again."""
    return replace(group, group_rewards=tuple(GroupReward(reward=reward) for _ in group.group_rewards))
