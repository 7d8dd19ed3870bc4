"""Does a few-shot sum read as it was measured to, and is its answer read as the text goes on?"""

import pytest
from asking import answered, builders, first_env, prompt_of, request
from playing import Recorded

from crucible.train.rl.environments.arithmetic import sums
from crucible.train.rl.environments.registry import find_environment, load_environment

NOBODY = Recorded()


async def test_the_default_prompt_is_two_maxima_and_a_third_to_finish() -> None:
    env = await first_env("arithmetic", NOBODY)
    assert await prompt_of(env) == "max(3, 8) = 8\nmax(9, 4) = 9\nmax(6, 8) ="


@pytest.mark.parametrize(
    ("said", "reward"),
    [(" 8\n", 1.0), ("8\n", 1.0), (" 8 or 6\n", -0.1), (" 6\n", 0.0), (" 88\n", 0.0), ("\n", -0.1), (" six\n", -0.1)],
)
async def test_a_line_is_right_if_it_says_the_answer_and_nothing_else(said: str, reward: float) -> None:
    env = await first_env("arithmetic", NOBODY)
    assert (await answered(env, said)).reward == pytest.approx(reward)


@pytest.mark.parametrize(
    ("variant", "problems", "example"),
    [
        ("max", 88, "max(9, 4) = 9"),
        ("min", 88, "min(9, 4) = 4"),
        ("add", 97, "9 + 6 = 15"),
        ("subtract", 53, "9 - 2 = 7"),
        ("multiply", 98, "2 * 3 = 6"),
        ("parity", 96, "19 is odd"),
    ],
)
async def test_each_kind_has_every_question_but_those_it_shows(variant: str, problems: int, example: str) -> None:
    assert len(sums(variant, digits=1)) == problems
    prompt = await prompt_of(await first_env(f"arithmetic:{variant}", NOBODY))
    shown, asked = prompt.split("\n")[:-1], prompt.split("\n")[-1]
    assert example in shown and asked not in [line[: len(asked)] for line in shown]


async def test_without_examples_the_question_stands_alone() -> None:
    env = await first_env("arithmetic:add", NOBODY, shots=0, digits=2)
    assert "\n" not in await prompt_of(env)


@pytest.mark.parametrize(("variant", "digits", "tokens"), [("max", 1, 3), ("add", 1, 4), ("multiply", 2, 6)])
def test_there_is_room_for_the_longest_answer(variant: str, digits: int, tokens: int) -> None:
    longest = max(len(one.answer) for one in sums(variant, digits=digits))
    environment, _ = find_environment(f"arithmetic:{variant}")
    assert environment.tokens(variant, {"digits": digits}) == tokens == longest + 2


async def test_a_group_is_so_many_attempts_at_one_sum() -> None:
    [builder, *_] = builders(load_environment("arithmetic", request(group_size=5)))
    envs = await builder.make_envs((await first_env("arithmetic", NOBODY)).seat.surroundings)
    assert len({await prompt_of(env) for env in envs}) == 1
    assert [env.seat.member for env in envs] == [0, 1, 2, 3, 4]
