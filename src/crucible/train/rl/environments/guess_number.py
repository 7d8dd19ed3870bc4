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
    """

    secret: Secret
    turns: int

    async def opening(self) -> Sequence[Message]:
        secret = self.secret
        rules = (
            f"I am thinking of a whole number from {secret.low} to {secret.high}. Guess it within {self.turns} turns: "
            "answer with one number. After each guess I say whether my number is higher or lower."
        )
        return [Message(role="user", content=rules)]

    async def reply(self, message: Message) -> Reply:
        guess, secret = number_in(text_of(message)), self.secret.number
        taken = self.turn + 1
        if guess == secret:
            return self._over(reward=1.0, taken=taken)
        if taken == self.turns:
            return self._over(reward=0.0, taken=taken)
        if guess is None:
            return _say("Answer with one number.")
        return _say(f"My number is {'higher' if secret > guess else 'lower'} than {guess}.")

    def _over(self, *, reward: float, taken: int) -> Reply:
        return Reply(reward=reward, metrics={"correct": reward, "guesses": taken}, logs={"secret": self.secret.number})


def number_in(text: str) -> int | None:
    """The last whole number in a text; None if there is none, or none of a sensible length."""
    found = [digits for digits in _NUMBER.findall(text) if len(digits) <= _MOST_DIGITS]
    return int(found[-1]) if found else None


def _say(text: str) -> Reply:
    return Reply(messages=(Message(role="user", content=text),))


def load_guess_number(variant: str, request: EnvironmentRequest) -> RLDataset:
    """Every secret of the range as a group."""
    del variant
    renderer = request.renderer
    assert renderer is not None, "the registry has asked for a renderer"
    low, high, turns = (int(request.options[name]) for name in ("low", "high", "turns"))
    if high <= low:
        raise ConfigError.of(
            "is not above low", where="env_options.high", given=str(high), fix=f"Give {low + 1} or more"
        )

    def group(secret: Secret) -> RehearsedProblem:
        return RehearsedProblem(
            make_env=lambda seat: _env(seat, secret, renderer, turns),
            group_size=request.group_size,
            name=f"{secret.number} of {low} to {high}",
            tagged=("guess_number",),
            known=Rehearsal(right=(str(secret.number),), wrong=(str(low - 1),) * turns),
        )

    secrets = [Secret(number=number, low=low, high=high) for number in range(low, high + 1)]
    return ProblemDataset(
        of_split(secrets, request.split, text=lambda secret: str(secret.number), limit=request.rows),
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _env(seat: Seat, secret: Secret, renderer: Renderer, turns: int) -> GuessNumberEnv:
    return GuessNumberEnv(seat=seat, renderer=renderer, secret=secret, turns=turns)


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
    },
)
