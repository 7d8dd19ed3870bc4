"""RL on a tiny model: it learns, its modes agree to the byte, and what trains nothing is said."""

import json
from pathlib import Path

import pytest

import crucible
from crucible.framework import RunResult
from crucible.train.rl.record import read_learned, read_rollouts, rollouts_file
from rl_letters import write_letter_model
from rl_runs import run_rl, steps_of

LEARNING = {"group_size": 8, "groups_per_batch": 8, "max_steps": 40, "lora_rank": 16, "eval_groups": 8}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letter_model(tmp_path_factory.mktemp("models") / "letters")


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_model_with_random_weights_learns_to_copy_letters(seed: int, letters: Path, tmp_path: Path) -> None:
    result = run_rl(letters, tmp_path / "run", **LEARNING, seed=seed)
    rewards = [row["reward/mean"] for row in steps_of(tmp_path / "run")]
    assert rewards[0] < 0.1 and sum(rewards[-5:]) / 5 > 0.5
    assert result.results["eval_reward_mean_before"] < 0.1 < 0.5 < result.results["eval_reward_mean_after"]


def metrics(run_dir: Path) -> bytes:
    return (run_dir / "metrics.jsonl").read_bytes()


def test_streamed_minibatches_are_the_same_bytes_as_waiting_for_all(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "streamed", stream_minibatches=3)
    run_rl(letters, tmp_path / "waited", gradient_accumulation_steps=3)
    assert metrics(tmp_path / "streamed") == metrics(tmp_path / "waited")


def test_several_calls_give_the_step_of_one_but_for_rounding(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "once", max_steps=2)
    run_rl(letters, tmp_path / "often", max_steps=2, gradient_accumulation_steps=4)
    for one, other in zip(steps_of(tmp_path / "once"), steps_of(tmp_path / "often"), strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_an_asynchronous_run_repeats_to_the_byte(letters: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        run_rl(letters, tmp_path / name, max_steps_off_policy=2, max_steps=6)
    assert metrics(tmp_path / "first") == metrics(tmp_path / "second")


def test_an_exact_schedule_samples_with_the_policy_of_so_many_steps_ago(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run", max_steps_off_policy=2, max_steps=6)
    assert [row["staleness/max"] for row in steps_of(tmp_path / "run")] == [0, 1, 2, 2, 2, 2]


def test_a_synchronous_run_is_on_policy_and_its_logprobs_agree(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run")
    for row in steps_of(tmp_path / "run"):
        assert row["staleness/max"] == 0 and row["sampler_gap/max"] < 1e-4


def test_substeps_take_as_many_optimizer_steps(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run", num_substeps=2, max_steps=2)
    groups = read_rollouts(rollouts_file(tmp_path / "run", 2)).groups
    versions = {turn.action.provenance.policy_version for group in groups for turn in group.trajectories[0].transitions}
    assert versions == {2}


def test_every_step_leaves_its_rollouts_and_what_learning_made_of_them(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run", max_steps=2)
    groups = read_rollouts(rollouts_file(tmp_path / "run", 2)).groups
    learned = read_learned(tmp_path / "run", 2)
    assert [group.index for group in groups] == [4, 5, 6, 7] == sorted(learned)
    assert all(len(one.advantages) == len(one.left_out) == 4 for one in learned.values())


def test_groups_without_a_lesson_take_no_optimizer_step(tmp_path: Path, letters: Path) -> None:
    run_rl(letters, tmp_path / "run", group_size=2, groups_per_batch=1, max_steps=3, env_options='{"format_coef": 0.0}')
    rows = steps_of(tmp_path / "run")
    assert all(("grad_norm" in row) == (row["groups_trained"] > 0) for row in rows)
    assert any(row["groups_trained"] == 0 for row in rows)


def test_dynamic_sampling_draws_others_for_them_and_counts_all(letters: Path, tmp_path: Path) -> None:
    config = {"group_size": 2, "max_steps": 2, "env_options": '{"format_coef": 0.0}'}
    run_rl(letters, tmp_path / "run", **config, dynamic_sampling=8)
    rows = steps_of(tmp_path / "run")
    assert all(row["groups"] > 4 for row in rows)
    assert len(read_rollouts(rollouts_file(tmp_path / "run", 1)).groups) == rows[0]["groups"]


def test_a_penalty_on_the_distance_from_the_base_model_is_measured(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run", kl_coef=0.5, max_steps=3)
    distances = [row["kl_policy_base"] for row in steps_of(tmp_path / "run")]
    assert distances[0] == pytest.approx(0, abs=1e-5) and distances[-1] > 1e-4


@pytest.mark.parametrize("loss", ["ppo", "cispo", "gspo", "dro"])
def test_every_loss_trains(loss: str, letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run", loss=loss, max_steps=2)
    assert any(row.get("grad_norm", 0) > 0 for row in steps_of(tmp_path / "run"))


def test_an_evaluation_asks_no_problem_twice(letters: Path, tmp_path: Path) -> None:
    run_rl(letters, tmp_path / "run", eval_groups=50, max_steps=1)
    groups = read_rollouts(rollouts_file(tmp_path / "run", 0, "eval")).groups
    assert len(groups) == len({group.problem for group in groups}) == 8


def test_a_checkpoint_can_be_measured_by_itself(letters: Path, tmp_path: Path) -> None:
    run = run_rl(letters, tmp_path / "run", eval_groups=8, max_steps=3)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    values = {key: one["value"] for key, one in config.items()}
    checkpoint = run.results["final_checkpoint"]
    options = {"torch": {"threads": 1}}
    measured = crucible.eval("rl_basic", values, checkpoint=checkpoint, run_dir=tmp_path / "eval", options=options)
    assert isinstance(measured, RunResult)
    assert measured.results["eval_reward_mean_checkpoint"] == run.results["eval_reward_mean_after"]
