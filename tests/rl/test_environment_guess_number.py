"""Is the number found, does the policy hear what leads there, and is no message beyond reading?"""

import pytest
from asking import answered, first_env, names, prompt_of, request, shown
from playing import Recorded

from crucible.errors import ConfigError
from crucible.train.rl.environments.guess_number import number_in
from crucible.train.rl.environments.registry import load_environment
from crucible.train.rl.types import Env

END = "<|im_end|>"


async def game(turns: int = 4) -> Env:
    """The secret is 51."""
    env = await first_env("guess_number", Recorded(), turns=turns)
    assert "from 0 to 100" in await prompt_of(env)
    assert env.secret.number == 51
    return env


async def test_a_game_that_was_won_by_halving_stands_before_the_first_guess() -> None:
    env = await first_env("guess_number", Recorded(), low=1, high=9)
    played = [message["content"] for message in await env.opening()][1:]
    assert played == [
        "5",
        "My number is higher than 5.",
        "7",
        "My number is lower than 7.",
        "6",
        "6 is right. Now I am thinking of another number.",
    ]


def test_no_problem_is_the_number_that_was_shown() -> None:
    both = [names(load_environment("guess_number", request(split=split, low=1, high=9))) for split in ("train", "eval")]
    assert sorted(both[0] + both[1]) == [f"{number} of 1 to 9" for number in (1, 2, 3, 4, 5, 7, 8, 9)]


async def test_without_an_example_the_rules_stand_alone() -> None:
    env = await first_env("guess_number", Recorded(), example=False)
    assert [message["role"] for message in await env.opening()] == ["user"]


async def test_the_secret_earns_one_at_whichever_turn() -> None:
    result = await answered(await game(), f"70{END}", f"I say 20, no, 30{END}", f"51!{END}")
    assert (result.reward, result.episode_done) == (1.0, True)
    assert result.metrics == {"correct": 1.0, "guesses": 3}
    assert result.logs == {"secret": 51}


@pytest.mark.parametrize(
    ("said", "heard"),
    [("50", "higher than 50"), ("52", "lower than 52"), ("-7", "higher than -7"), ("many", "Answer with one number")],
)
async def test_after_each_guess_the_policy_hears_where_the_secret_is(said: str, heard: str) -> None:
    result = await answered(await game(), f"{said}{END}")
    assert (result.reward, result.episode_done) == (0.0, False)
    assert heard in shown(result.next_observation)


async def test_the_game_is_lost_after_its_turns_unreadable_ones_included() -> None:
    result = await answered(await game(turns=2), f"what?{END}", f"52{END}")
    assert (result.reward, result.episode_done, result.metrics["correct"]) == (0.0, True, 0.0)


async def test_each_observation_goes_on_from_the_one_before_token_for_token() -> None:
    env = await game()
    first, _ = await env.initial_observation()
    after = (await answered(env, f"50{END}")).next_observation
    assert shown(after).startswith(f"{shown(first)}50{END}")


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("3 then 12.", 12), ("", None), ("9" * 5000, None), ("5 " + "1" * 19, 5)]
)
def test_the_last_number_of_a_sensible_length_is_the_guess(text: str, number: int | None) -> None:
    assert number_in(text) == number


def test_a_range_without_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match="Give 6 or more"):
        load_environment("guess_number", request(low=5, high=5))
