"""Are reasoning-gym's puzzles the same wherever they are made, and is only a scorer that works believed?"""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from asking import answered, builders, first_env, names, prompt_of, request
from playing import Recorded

from crucible.errors import ConfigError
from crucible.train.graders.pool import GraderPool
from crucible.train.rl.environments.reasoning_gym_tasks import UNREPEATABLE, answer_in, grade, task_options, tasks
from crucible.train.rl.environments.registry import environment_problems, load_environment

END = "<|im_end|>"
CHAIN = "reasoning_gym:chain_sum"
EASY = {"max_terms": 2, "max_digits": 1}


@pytest.fixture(scope="module")
def graders() -> Iterator[GraderPool]:
    with GraderPool(workers=1) as pool:
        yield pool


def test_there_are_a_hundred_tasks_and_no_mixture() -> None:
    assert len(tasks()) > 100
    assert "chain_sum" in tasks() and "composite" not in tasks()


async def test_a_question_says_where_its_answer_goes() -> None:
    prompt = await prompt_of(await first_env(CHAIN, Recorded(), rows=1, **EASY))
    assert "State the final answer" in prompt and "between <answer> and </answer>" in prompt


@pytest.mark.parametrize(
    ("said", "reward"), [("<answer>0</answer> or <answer>{}</answer>", 1.0), ("{}", -0.1), ("<answer>{}", -0.1)]
)
async def test_the_last_tagged_answer_goes_to_the_tasks_own_scorer(
    graders: GraderPool, said: str, reward: float
) -> None:
    env = await first_env(CHAIN, graders, rows=1, **EASY)
    await env.initial_observation()
    assert (await answered(env, said.format(env.reference) + END)).reward == pytest.approx(reward)


ONE_QUESTION = """
from crucible.train.rl.environments.reasoning_gym_tasks import Puzzle
for task in ("chain_sum", "word_sorting"):
    puzzle = Puzzle(task=task, settings="{}", seed=4, split="eval", rows=3, place=1, version="")
    print(puzzle.entry())
"""


REFUSED = """
from crucible.train.rl.environments.reasoning_gym_tasks import UNREPEATABLE
from crucible.train.rl.environments.registry import environment_problems
print([problem.fix for task in UNREPEATABLE for problem in environment_problems(f"reasoning_gym:{task}")])
"""


def printed(program: str, *, hash_seed: str) -> str:
    """What a Python of that hash seed prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_questions_of_a_seed_are_the_same_in_every_process() -> None:
    assert printed(ONE_QUESTION, hash_seed="1") == printed(ONE_QUESTION, hash_seed="2") != ""


def test_tasks_whose_questions_hang_on_the_hash_seed_are_refused_unless_it_is_fixed() -> None:
    assert printed(REFUSED, hash_seed="random").count("PYTHONHASHSEED=0") == len(UNREPEATABLE)
    assert printed(REFUSED, hash_seed="0").strip() == "[]"


async def test_held_out_questions_are_no_runs_to_choose_and_none_of_them_is_trained() -> None:
    asked = [[await question_of(split, seed) for seed in (0, 1)] for split in ("train", "eval")]
    assert asked[0][0] != asked[0][1]
    assert asked[1][0] == asked[1][1]
    assert {*asked[0][0], *asked[0][1]}.isdisjoint(asked[1][0])


async def question_of(split: str, seed: int) -> tuple[str, ...]:
    dataset = load_environment(CHAIN, request(rows=12, seed=seed, split=split, **EASY))
    [around] = [(await first_env(CHAIN, Recorded(), rows=1, **EASY)).seat.surroundings]
    envs = [(await builder.make_envs(around))[0] for builder in builders(dataset)]
    return tuple(env.question for env in envs)


def test_to_know_what_a_run_is_over_no_question_needs_to_be_made() -> None:
    one, other = (load_environment(CHAIN, request(max_terms=terms)) for terms in (3, 4))
    assert len(one) == 250
    assert one.fingerprint() != other.fingerprint()
    assert len(set(names(load_environment(CHAIN, request(rows=6))))) == 6


def test_a_tasks_settings_are_options_checked_by_type_and_by_the_task_itself() -> None:
    assert task_options("chain_sum")["min_terms"].default == 2
    [unknown, wrong] = environment_problems(CHAIN, {"max_term": 3, "min_digits": "two"})
    assert "did you mean max_terms" in str(unknown).lower() and "a whole number" in str(wrong)
    with pytest.raises(ConfigError, match="reasoning-gym refuses these settings of chain_sum"):
        load_environment(CHAIN, request(min_terms=5, max_terms=2))


ITEM = {"task": "prime_factorization", "settings": "{}", "seed": 7, "rows": 3, "place": 0}


def test_an_answer_that_a_sound_scorer_cannot_read_is_wrong() -> None:
    verdict = grade({**ITEM, "answer": "no idea"})
    assert (verdict.score, verdict.detail) == (0.0, "the scorer cannot read it: ValueError")


def test_a_scorer_that_is_broken_gives_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, answer: str, entry: object) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr("reasoning_gym.arithmetic.prime_factorization.PrimeFactorizationDataset.score_answer", broken)
    with pytest.raises(ZeroDivisionError):
        grade({**ITEM, "answer": "2"})


@pytest.mark.parametrize(
    ("text", "answer"), [("<answer> a\nb </answer>", "a\nb"), ("<answer></answer>", ""), ("</answer><answer>", None)]
)
def test_the_answer_is_what_stands_between_the_tags(text: str, answer: str | None) -> None:
    assert answer_in(text) == answer
