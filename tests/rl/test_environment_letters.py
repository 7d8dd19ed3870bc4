"""Can a tiny model's few characters be asked for, read, and paid one by one?"""

import pytest
from asking import first_env, prompt_of
from playing import Recorded, action

from crucible.train.rl.environments.registry import find_environment

NOBODY = Recorded()


@pytest.mark.parametrize(
    ("variant", "prompt", "answer"), [("copy", "a>", "a"), ("max_digit", "52>", "5"), ("reverse", "hdc>", "cdh")]
)
async def test_a_question_is_its_characters_and_nothing_but_their_number_ends_the_answer(
    variant: str, prompt: str, answer: str
) -> None:
    env = await first_env(f"letters:{variant}", NOBODY)
    observation, stop = await env.initial_observation()
    assert (env.form.tokenizer.decode(observation.to_ints()), list(stop)) == (prompt, [])
    result = await env.step(action(answer, stop_reason="length"))
    assert (result.reward, result.ended) == (1.0, "done")


@pytest.mark.parametrize(("said", "reward"), [("cdh", 1), ("cdx", 2 / 3 - 0.1), ("cda", 2 / 3), ("hdc", 1 / 3)])
async def test_each_character_in_its_place_earns_its_share(said: str, reward: float) -> None:
    env = await first_env("letters:reverse", NOBODY)
    assert await prompt_of(env) == "hdc>"
    assert (await env.step(action(said, stop_reason="length"))).reward == pytest.approx(reward)


async def test_what_comes_after_the_answer_is_not_read_and_too_little_is_cut() -> None:
    longer = await (await first_env("letters:copy", NOBODY)).step(action("abc", stop_reason="length"))
    assert (longer.reward, longer.logs["answer"]) == (1.0, "a")
    shorter = await (await first_env("letters:reverse", NOBODY)).step(action("cd", stop_reason="length"))
    assert (shorter.ended, shorter.reward) == ("cut", pytest.approx(2 / 3 - 0.1))


@pytest.mark.parametrize(("variant", "tokens"), [("copy", 1), ("max_digit", 1), ("reverse", 3)])
def test_the_room_of_a_turn_is_the_answers_own_length(variant: str, tokens: int) -> None:
    assert find_environment("letters")[0].tokens(variant) == tokens
