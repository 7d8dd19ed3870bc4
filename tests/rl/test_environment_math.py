"""Does a row of mathematics become a question, and is its answer found, compared by value, and never guessed at?"""

from collections.abc import Iterator

import pytest
from asking import answered, builders, first_env, names, prompt_of, request
from playing import Recorded

from crucible.errors import DataError
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.environments.math_rows import final_answer, marked_answer
from crucible.train.rl.environments.registry import load_environment
from crucible.train.rl.types import Env

END = "<|im_end|>"
ROWS = [{"question": f"What is {n} + 1000?", "answer": f"{n} + 1000 = {n + 1000}\n#### 1,{n:03}"} for n in range(40)]
DATA = {"gsm8k": ROWS}


@pytest.fixture(scope="module")
def graders() -> Iterator[GraderPool]:
    with GraderPool(workers=1) as pool:
        yield pool


async def test_the_question_follows_a_solved_one_and_says_how_to_mark_the_answer() -> None:
    prompt = await prompt_of(await first_env("gsm8k", Recorded(), data=DATA))
    assert "\\boxed{7}<|im_end|>" in prompt
    assert prompt.endswith("What is 3 + 1000? Write your final answer in \\boxed{}.<|im_end|>\n<|im_start|>assistant\n")
    alone = await prompt_of(await first_env("gsm8k", Recorded(), data=DATA, example=False, answer_style="hash"))
    assert alone.count("<|im_start|>user") == 1 and "after ####" in alone


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ("\\boxed{1003}", 1.0),
        ("First \\boxed{3}. So \\boxed{1,003}", 1.0),
        ("\\boxed{2006/2}", 1.0),
        ("\\boxed{1004}", 0.0),
        ("it is 1003", -0.1),
        ("\\boxed{1003", -0.1),
    ],
)
async def test_the_last_marked_answer_counts_by_its_value(graders: GraderPool, said: str, reward: float) -> None:
    env = await first_env("gsm8k", graders, data=DATA)
    assert "What is 3 + 1000?" in await prompt_of(env)
    assert (await answered(env, said + END)).reward == pytest.approx(reward)


async def test_with_hashes_the_answer_is_what_stands_after_them(graders: GraderPool) -> None:
    env = await first_env("gsm8k", graders, data=DATA, answer_style="hash", grader="number")
    await env.initial_observation()
    assert (await answered(env, f"#### 3\n3 + 1000\n#### $1003.00 {END}")).reward == 1.0


async def test_a_graders_failure_is_no_reward_and_an_unmarked_answer_asks_no_grader() -> None:
    broken = Recorded(verdicts={"math": Verdict.invalid("it died")})
    env = await first_env("gsm8k", broken, data=DATA)
    await env.initial_observation()
    result = await answered(env, f"\\boxed{{1003}}{END}")
    assert result.verdict == Verdict.invalid("it died")
    assert (await answered(await started(broken), f"I do not know{END}")).verdict is None
    assert len(broken.places) == 1


async def started(graders: Recorded) -> Env:
    env = await first_env("gsm8k", graders, data=DATA)
    await env.initial_observation()
    return env


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("2 * 3 = <<2*3=6>>6\n#### 6", "6"),
        ("#### 1\n#### 1,234 \n####", "1234"),
        ("so \\boxed{\\frac{1}{2}} it is", "\\frac{1}{2}"),
        (" 7 ", "7"),
    ],
)
def test_the_reference_is_found_in_a_worked_solution(solution: str, answer: str) -> None:
    assert final_answer(solution) == answer


@pytest.mark.parametrize("style", ["boxed", "hash"])
@pytest.mark.parametrize("text", ["", "#### ", "\\boxed", "\\boxed{", "}" * 5000, "#" * 5000, "####\n5"])
def test_no_text_is_beyond_reading(style: str, text: str) -> None:
    assert marked_answer(text, style) is None


def test_rows_of_ones_own_are_taken_by_the_usual_names_of_columns() -> None:
    rows = [{"problem": f"{n}?", "solution": f"\\boxed{{{n}}}"} for n in range(9)] + [{"question": "x?", "answer": 3}]
    found = load_environment("math", request(data={"mine": rows}, dataset="mine"))
    assert {builder.tags for builder in builders(found)} == {("math",)}
    assert all(name.startswith("mine row ") for name in names(found))


def test_rows_that_are_no_problems_are_all_named_by_their_place() -> None:
    rows = [{"question": "2?", "answer": "2"}, {"question": "3?"}, {"question": " ", "answer": None}]
    with pytest.raises(DataError) as raised:
        load_environment("gsm8k", request(data={"gsm8k": rows}))
    assert [problem.where for problem in raised.value.problems] == ["gsm8k[train] row 2", "gsm8k[train] row 3"]
    assert "question or problem or prompt and no text in answer" in str(raised.value)


def test_a_split_of_its_own_is_measured_whole() -> None:
    store = {"data": {"gsm8k": ROWS}}
    asked = request(split="eval", eval_split="train", **store)
    assert len(set(names(load_environment("gsm8k", asked)))) == len(ROWS)
