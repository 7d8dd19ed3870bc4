"""Does the doctor see what is wrong with an environment, its prompts and its rewards, before a step is taken?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Never

import pytest

import crucible
from crucible.errors import ConfigError, DataError
from crucible.kitchen.rl_doctor import ROLLOUT_CHECKS
from crucible.kitchen.rl_plan import RLPlan
from crucible.train.checks import Finding
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.problem_checks import PROBLEM_CHECKS
from crucible.train.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from crucible.train.rl.prompt_form import TextForm
from crucible.train.rl.types import RLDataset
from rl_letters import write_letter_model


class Deaf(ProblemEnv):
    """Hears no answer as the right one."""

    async def check_answer(self, answer: str) -> float | Verdict:
        return 0.0 if answer != "down" else Verdict.invalid("the grader is down")


def deaf(request: EnvironmentRequest) -> RLDataset:
    def group(question: str) -> RehearsedProblem:
        return RehearsedProblem(
            make_env=lambda seat: Deaf(form=TextForm(tokenizer=request.tokenizer), seat=seat, question=question),
            group_size=request.group_size,
            known=Rehearsal(right=(question,), wrong=("?",)),
        )

    return ProblemDataset(["a", "b"], group, groups_per_batch=request.groups_per_batch, seed=request.seed)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    crucible.register_environment("deaf", deaf)
    return write_letter_model(tmp_path_factory.mktemp("letters") / "model")


def diagnosed(model: Path, *only: str, **values: object) -> Mapping[str, Finding]:
    config = {"model": str(model), "env": "letters:copy", "max_tokens": 1, "group_size": 4, "waive": "learning_rate"}
    return {one.check: one for one in crucible.doctor("rl_grpo", {**config, **values}, manifest="local", only=only)}


def test_a_sound_recipe_passes_every_check_of_problems_rollouts_and_backend(letters: Path) -> None:
    found = diagnosed(letters)
    assert list(found)[: len(PROBLEM_CHECKS)] == list(PROBLEM_CHECKS)
    assert {*ROLLOUT_CHECKS, "batching", "accumulation", "loss"} < set(found)
    assert {one.status for name, one in found.items() if name not in ("signal", "cut_off")} <= {"pass", "warn"}
    assert found["sampler"].status == found["answers"].status == "pass"


def test_an_environment_that_does_not_reward_its_own_answer_fails_and_names_it(letters: Path) -> None:
    found = diagnosed(letters, "answers", env="deaf")
    assert found["answers"].status == "fail"
    assert "the right answer 'a' earned" in found["answers"].where or "'b' earned" in found["answers"].where


def test_a_run_in_such_an_environment_stops_before_its_first_step(letters: Path, tmp_path: Path) -> None:
    config = {"model": str(letters), "env": "deaf", "max_steps": 1, "waive": "learning_rate"}
    with pytest.raises(DataError, match="do not reward their own answers"):
        crucible.run("rl_grpo", config, manifest="local", run_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists() or not (tmp_path / "run" / "metrics.jsonl").read_text()


def test_an_environment_that_fails_to_begin_is_one_sentence_and_names_the_problem(letters: Path) -> None:
    class Broken(Deaf):
        async def initial_observation(self) -> Never:
            raise OSError("the board is gone")

    def broken(request: EnvironmentRequest) -> RLDataset:
        def group(question: str) -> ProblemGroupBuilder:
            return ProblemGroupBuilder(
                make_env=lambda seat: Broken(form=TextForm(tokenizer=request.tokenizer), seat=seat, question=question),
                group_size=request.group_size,
                name=question,
            )

        return ProblemDataset(["a"], group, groups_per_batch=request.groups_per_batch, seed=request.seed)

    crucible.register_environment("broken", broken)
    with pytest.raises(DataError, match=r"the problem a: .*OSError: the board is gone"):
        diagnosed(letters, "prompts", env="broken")


def test_answers_that_cannot_fit_the_context_are_found(letters: Path) -> None:
    (finding,) = diagnosed(letters, "prompts", max_tokens=100_000).values()
    assert finding.status == "warn" and "no room for a whole answer" in finding.sentence


def test_rewards_that_never_differ_are_no_signal(letters: Path) -> None:
    found = diagnosed(letters, "signal", env="deaf", max_tokens=1)
    assert found["signal"].status == "warn" and "nothing but equal rewards" in found["signal"].sentence


def test_a_check_that_does_not_exist_is_refused_by_name(letters: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such check") as caught:
        diagnosed(letters, "rollout")
    assert "rollouts" in str(caught.value)


def test_the_plan_counts_groups_members_and_the_tokens_of_prompts(letters: Path) -> None:
    config = {"model": str(letters), "env": "letters:copy", "max_tokens": 1, "group_size": 4, "groups_per_batch": 3}
    planned = crucible.plan("rl_grpo", {**config, "max_steps": 5, "save_every": 2}, manifest="local")
    assert isinstance(planned, RLPlan)
    assert (planned.steps, planned.rollouts, planned.sampled_tokens) == (5, 60, 60)
    assert planned.prompt_tokens == (2, 2.0, 2) and planned.trained_tokens == 60 * 3
    assert planned.checkpoints == 3 and planned.estimate is not None
