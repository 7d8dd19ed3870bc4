"""Do the environments that the documentation shows (`docs/environments.md`) play as it says?"""

from dataclasses import dataclass, replace

from playing import CHAT, LIMITS, TOKENIZER, Scripted, rolled

from crucible.train.messages import Message, text_of
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.message_env import MessageEnv, Reply
from crucible.train.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from crucible.train.rl.prompt_form import TextForm


@dataclass(kw_only=True, eq=False)
class Backwards(ProblemEnv):
    """Write a word backwards."""

    async def check_answer(self, answer: str) -> float:
        return float(answer.strip() == self.reference)


def backwards(request: EnvironmentRequest) -> ProblemDataset[str]:
    form = TextForm(tokenizer=request.tokenizer, before="cat -> tac\nbird -> drib\n", after=" ->")

    def group(word: str) -> ProblemGroupBuilder:
        return ProblemGroupBuilder(
            make_env=lambda seat: Backwards(form=form, seat=seat, question=word, reference=word[::-1]),
            group_size=request.group_size,
            name=word,
            tagged=(f"length {len(word)}",),
        )

    words = ["sun", "moon", "tree", "river", "stone"]
    return ProblemDataset(words, group, groups_per_batch=request.groups_per_batch, seed=request.seed)


@dataclass(kw_only=True, eq=False)
class HigherLower(MessageEnv):
    """Find a number between 1 and 9."""

    async def opening(self) -> list[Message]:
        self.number = int(self.seat.group_generator("number").integers(1, 10))
        return [Message(role="user", content="I think of a number between 1 and 9.")]

    async def reply(self, message: Message) -> Reply:
        guess = text_of(message).strip()
        if guess == str(self.number):
            return Reply(reward=1.0, metrics={"guesses": self.turn + 1})
        hint = "higher" if guess < str(self.number) else "lower"
        return Reply(messages=[Message(role="user", content=hint)])


async def test_the_words_are_asked_after_the_examples_and_written_backwards_earn_a_reward() -> None:
    request = EnvironmentRequest(tokenizer=TOKENIZER, group_size=2, groups_per_batch=5, seed=0)
    [moon] = [group for group in backwards(request).get_batch(0) if group.problem == "moon"]
    completer = Scripted(says=lambda _, __, i: [" noom\n", " moon\n"][i])
    group = await rolled(moon, completer)
    assert completer.asked[0].prompt == "cat -> tac\nbird -> drib\nmoon ->"
    assert (group.rewards, group.tags) == ([1.0, 0.0], ("length 4",))


def higher_lower(members: int) -> ProblemGroupBuilder:
    return ProblemGroupBuilder(make_env=lambda seat: HigherLower(renderer=CHAT, seat=seat), group_size=members)


def halving(prompt: str, *_: int) -> str:
    """The middle of what the hints leave."""
    low, high, guess = 1, 9, 5
    for hint in prompt.split("<|im_start|>user\n")[2:]:
        low, high = (guess + 1, high) if hint.startswith("higher") else (low, guess - 1)
        guess = (low + high) // 2
    return f"{guess}<|im_end|>"


async def test_who_halves_finds_the_number_that_all_members_of_a_group_share() -> None:
    group = await rolled(higher_lower(3), Scripted(says=halving))
    guesses = [one.transitions[-1].result.metrics["guesses"] for one in group.trajectories]
    assert group.rewards == [1.0] * 3
    assert len(set(guesses)) == 1
    assert 1 <= guesses[0] <= 4


async def test_who_does_not_find_it_is_ended_by_the_limit_on_turns() -> None:
    completer = Scripted(says=lambda *_: "0<|im_end|>")
    group = await rolled(higher_lower(2), completer, limits=replace(LIMITS, max_turns=3))
    assert [(one.ended, len(one.transitions), one.reward) for one in group.trajectories] == [("turns", 3, 0.0)] * 2
