"""Does a row of code become a task, and is what the model writes run as it was meant?"""

from collections.abc import Iterator
from typing import Any

import pytest
from asking import answered, first_env, names, prompt_of, request
from playing import Recorded

from crucible.errors import DataError, Problem
from crucible.train.graders.pool import GraderPool
from crucible.train.rl.environments.code_rows import CodeProblem, program_in, read_row
from crucible.train.rl.environments.registry import load_environment

END = "<|im_end|>"
PROMPT = 'import math\n\n\ndef area(r: float) -> float:\n    """ Of a disc.\n    >>> area(0)\n    0.0\n    """\n'
ROW = {
    "task_id": "Mine/1",
    "prompt": PROMPT,
    "entry_point": "area",
    "canonical_solution": "    return math.pi * r * r\n",
    "test": "def check(candidate):\n    assert candidate(0) == 0\n    assert abs(candidate(2) - 12.566) < 0.01\n",
}
CASES = {"prompt": "Print twice what you read.", "cases": [{"stdin": "ab", "expected": "abab"}]}


@pytest.fixture(scope="module")
def graders() -> Iterator[GraderPool]:
    with GraderPool(workers=1) as pool:
        yield pool


def only(row: dict[str, Any]) -> dict[str, Any]:
    """Options under which that row alone is held out, so that it comes first."""
    return {"data": {"mine": [row]}, "dataset": "mine", "eval_split": "train", "sandbox": "limits"}


async def test_a_function_to_complete_is_shown_as_it_begins() -> None:
    prompt = await prompt_of(await first_env("code", Recorded(), **only(ROW)))
    assert "Reply with the whole function in one ```python block." in prompt
    assert f"```python\n{PROMPT}```" in prompt


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ("Sure:\n```python\ndef area(r):\n    return math.pi * r ** 2\n```", 1.0),
        ("```\n    return math.pi * r * r\n```", 1.0),
        ("```python\ndef area(r):\n    return math.pi * r ** 2\n```\nFor example:\n```python\narea(3)\n```", 1.0),
        ("```python\ndef area(r):\n    return 3 * r\n```", 0.0),
        ("```\ndef area(r): return 0\n```\nNo:\n```\ndef area(r): return math.pi * r * r\n```", 1.0),
        ("```python\ndef area(r)\n```", 0.0),
        ("```python\nraise SystemExit(0)\n```", 0.0),
        ("def area(r):\n    return math.pi * r ** 2", -0.1),
    ],
)
async def test_an_answer_is_worth_what_its_tests_say(graders: GraderPool, said: str, reward: float) -> None:
    env = await first_env("code", graders, **only(ROW))
    await env.initial_observation()
    assert (await answered(env, said + END)).reward == pytest.approx(reward)


@pytest.mark.parametrize(("printed", "reward"), [("input() * 2", 1.0), ("input()", 0.0)])
async def test_a_program_is_held_against_what_it_prints(graders: GraderPool, printed: str, reward: float) -> None:
    env = await first_env("code", graders, **only(CASES))
    assert "standard input" in await prompt_of(env)
    assert (await answered(env, f"```python\nprint({printed})\n```{END}")).reward == reward


def test_what_the_prompt_has_before_its_function_is_kept() -> None:
    problem = CodeProblem(prompt="def half(x):\n    return x / 2\n\n\ndef area(r):\n", name="", function="area")
    program = program_in("```python\ndef area(r):\n    return half(r)\n```", problem)
    names: dict[str, Any] = {}
    exec(program or "", names)
    assert names["area"](8) == 4


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({}, "no text in prompt"),
        ({"prompt": "x"}, "no test or tests, nor cases"),
        ({"prompt": "x", "tests": "y", **CASES}, "one of them"),
        ({"prompt": "x", "cases": [{"stdin": "a"}]}, "nor cases"),
        ({"prompt": "x", "cases": "a"}, "nor cases"),
    ],
)
def test_a_row_that_cannot_be_graded_says_why(row: dict[str, Any], wrong: str) -> None:
    problem = read_row(row, "row 1")
    assert isinstance(problem, Problem) and wrong in str(problem)


def test_such_rows_are_refused_before_anything_is_sampled() -> None:
    with pytest.raises(DataError, match=r"mine\[train\] row 2"):
        load_environment("code", request(**only(ROW) | {"data": {"mine": [ROW, {"prompt": "x"}]}}))


def test_a_problem_is_known_by_its_own_name_or_its_row() -> None:
    plain = {key: value for key, value in ROW.items() if key != "task_id"}
    asked = request(**only(ROW) | {"data": {"mine": [ROW, plain | {"prompt": "other"}]}})
    assert set(names(load_environment("code", asked))) == {"Mine/1", "mine row 2"}
