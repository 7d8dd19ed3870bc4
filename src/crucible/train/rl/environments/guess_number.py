"""What is the simplest conversation that can be won? Guessing a number from "higher" and "lower"."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crucible.errors import Problem
from crucible.train.messages import Message, text_of
from crucible.train.renderers.renderer import Renderer
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.environments.rehearsed import Rehearsal, RehearsedProblem
from crucible.train.rl.environments.splits import of_split
from crucible.train.rl.message_env import MessageEnv, Reply
from crucible.train.rl.seat import Seat
from crucible.train.rl.types import RLDataset

_NUMBER = re.compile(r"-?\d+")
_MOST_DIGITS = 18
"""Of a guess: Python refuses to read numbers of thousands of digits, and no secret has more than these."""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A number to guess, between two others, themselves included."""

    number: int
    low: int
    high: int


@dataclass(kw_only=True, eq=False)
class GuessNumberEnv(MessageEnv):
    """The policy guesses, and hears whether the secret is higher or lower, until it has it or its turns are over.

    The reward is 1 for the secret, at whichever turn, and 0 for none. A message without a number is a turn lost; of
    several numbers the last is meant.

    example: whether a game that was won stands before; a small model would not answer with a number otherwise.
    """

    secret: Secret
    turns: int
    example: bool

    async def opening(self) -> Sequence[Message]:
        secret = self.secret
        rules = (
            f"I am thinking of a whole number from {secret.low} to {secret.high}. Guess it within {self.turns} turns: "
            "answer with one number. After each guess I say whether my number is higher or lower."
        )
        if not self.example:
            return [Message(role="user", content=rules)]
        shown = example_secret(secret.low, secret.high)
        said = [rules]
        for guess in bisection(shown, low=secret.low, high=secret.high):
            said += [str(guess), hint(shown, guess)]
        said[-1] = f"{shown} is right. Now I am thinking of another number."
        return [Message(role=("user", "assistant")[place % 2], content=text) for place, text in enumerate(said)]

    async def reply(self, message: Message) -> Reply:
        guess, secret = number_in(text_of(message)), self.secret.number
        taken = self.turn + 1
        if guess == secret:
            return self._over(reward=1.0, taken=taken)
        if taken == self.turns:
            return self._over(reward=0.0, taken=taken)
        return Reply(messages=(Message(role="user", content=hint(secret, guess)),))

    def _over(self, *, reward: float, taken: int) -> Reply:
        return Reply(reward=reward, metrics={"correct": reward, "guesses": taken}, logs={"secret": self.secret.number})


def number_in(text: str) -> int | None:
    """The last whole number in a text; None if there is none, or none of a sensible length."""
    found = [digits for digits in _NUMBER.findall(text) if len(digits) <= _MOST_DIGITS]
    return int(found[-1]) if found else None


def hint(secret: int, guess: int | None) -> str:
    """What is said to a guess that is not the secret."""
    if guess is None:
        return "Answer with one number."
    return f"My number is {'higher' if secret > guess else 'lower'} than {guess}."


def example_secret(low: int, high: int) -> int:
    """The secret of the game that is shown; no problem has it."""
    return low + 2 * (high - low) // 3


def bisection(secret: int, *, low: int, high: int) -> list[int]:
    """The guesses of a player who halves what is left, up to the secret."""
    guesses = [(low + high) // 2]
    while guesses[-1] != secret:
        low, high = (guesses[-1] + 1, high) if secret > guesses[-1] else (low, guesses[-1] - 1)
        guesses.append((low + high) // 2)
    return guesses


def load_guess_number(variant: str, request: EnvironmentRequest) -> RLDataset:
    """Every secret of the range as a group, but for the one of the game that is shown."""
    del variant
    renderer = request.renderer
    assert renderer is not None, "the registry has asked for a renderer"
    low, high, turns = (int(request.options[name]) for name in ("low", "high", "turns"))

    def group(secret: Secret) -> RehearsedProblem:
        return RehearsedProblem(
            make_env=lambda seat: _env(seat, secret, renderer, request.options),
            group_size=request.group_size,
            name=f"{secret.number} of {low} to {high}",
            tagged=("guess_number",),
            known=Rehearsal(right=(str(secret.number),), wrong=(str(low - 1),) * turns),
        )

    shown = example_secret(low, high)
    secrets = [Secret(number=number, low=low, high=high) for number in range(low, high + 1) if number != shown]
    return ProblemDataset(
        of_split(secrets, request.split, text=lambda secret: str(secret.number), limit=request.rows),
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _env(seat: Seat, secret: Secret, renderer: Renderer, options: Mapping[str, Any]) -> GuessNumberEnv:
    turns, example = int(options["turns"]), bool(options["example"])
    return GuessNumberEnv(seat=seat, renderer=renderer, secret=secret, turns=turns, example=example)


def _problems(variant: str, options: Mapping[str, Any]) -> Iterator[Problem]:
    del variant
    low, high = options["low"], options["high"]
    if high <= low:
        yield Problem(what="is not above low", where="env_options.high", given=str(high), fix=f"Give {low + 1} or more")


GUESS_NUMBER = Environment(
    name="guess_number",
    description="a number to find in a few turns, hearing higher or lower after each guess",
    load=load_guess_number,
    needs_renderer=True,
    turns=0,
    max_tokens=16,
    check=_problems,
    options={
        "low": Option(default=0, description="the smallest number"),
        "high": Option(default=100, description="the greatest number"),
        "turns": Option(default=10, least=1, description="guesses before the game is lost"),
        "example": Option(default=True, description="whether a game that was won stands before the first guess"),
    },
)
