"""Before an RL run, `inspect data` shows the very prompts that the run will sample from, and what is known of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import crucible
from crucible.errors import ConfigError, DataError
from crucible.runtime.inspecting import inspect_data
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.environments.registry import register_environment
from crucible.train.rl.record import read_rollouts, rollout_files
from crucible.train.rl.tree_parts import tokens_of
from crucible.train.rl.types import Env, EnvGroupBuilder, RLDataset, Surroundings

CONFIG: dict[str, Any] = {"env": "letters", "group_size": 2, "groups_per_batch": 3, "max_tokens": 4, "eval_every": 0}


class Broken(EnvGroupBuilder):
    """A problem that cannot be begun."""

    async def make_envs(self, surroundings: Surroundings) -> Sequence[Env]:
        del surroundings
        raise OSError("the game's server is gone")


def broken(request: EnvironmentRequest) -> RLDataset:
    return ProblemDataset(range(6), lambda _: Broken(), groups_per_batch=request.groups_per_batch, seed=request.seed)


def test_the_prompts_are_those_that_the_run_samples_from(tiny_model: Path, tmp_path: Path) -> None:
    config = {**CONFIG, "model": str(tiny_model)}
    seen = inspect_data("rl_basic", config, rows=6)
    crucible.run("rl_basic", {**config, "max_steps": 2, "learning_rate": 1e-2}, run_dir=tmp_path / "run")
    groups = [group for file in rollout_files(tmp_path / "run") for group in read_rollouts(file).groups]
    asked = [tokens_of(group.trajectories[0].transitions[0].observation) for group in groups]
    assert [row.ids for row in seen.rows] == asked and [row.origin for row in seen.rows] == [g.problem for g in groups]
    assert [row.step for row in seen.rows] == [1, 1, 1, 2, 2, 2] and seen.facts["env"] == "letters"


def test_what_is_known_of_a_problem_stands_with_it(tiny_model: Path) -> None:
    (row,) = inspect_data("rl_basic", {**CONFIG, "model": str(tiny_model)}, rows=1, start=4).rows
    assert row.row == 4 and row.trained == [] and row.kept == len(row.ids)
    assert [note.split(":")[0] for note in row.notes[:2]] == ["tags", "a right answer"] and "turn ends" in row.notes[2]


def test_a_problem_beyond_the_last_is_refused(tiny_model: Path) -> None:
    with pytest.raises(DataError, match="an epoch has"):
        inspect_data("rl_basic", {**CONFIG, "model": str(tiny_model)}, start=10**9)


def test_a_problem_that_cannot_be_begun_is_there_with_the_reason(tiny_model: Path) -> None:
    register_environment("broken_view", broken)
    rows = inspect_data("rl_basic", {**CONFIG, "model": str(tiny_model), "env": "broken_view"}, rows=2).rows
    assert len(rows) == 2 and all(
        row.problems == ("it cannot be begun: OSError: the game's server is gone",) for row in rows
    )


def test_an_environment_that_does_not_exist_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="no such environment"):
        inspect_data("rl_basic", {**CONFIG, "model": str(tiny_model), "env": "lettters"})
