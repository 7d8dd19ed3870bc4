"""Who plays in the tests of rollouts, and what? Completers that say what a test wants, and small environments."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import Provenance
from crucible.testing.fakes import FakeTokenizer
from crucible.train.graders.graders import Graders
from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message, text_of
from crucible.train.renderers import get_renderer
from crucible.train.rl.completer import Completer
from crucible.train.rl.message_env import MessageEnv, Reply
from crucible.train.rl.players import Game
from crucible.train.rl.prompt_form import TextForm
from crucible.train.rl.rollout import RolloutLimits, rollout_group
from crucible.train.rl.seat import Seat
from crucible.train.rl.types import Action, EnvGroupBuilder, StopCondition, Surroundings, TrajectoryGroup

TOKENIZER = FakeTokenizer()
CHAT = get_renderer("chatml", TOKENIZER)
PLAIN = TextForm(tokenizer=TOKENIZER)
PROVENANCE = Provenance(base_model="scripted", digest="d", policy_version=3, temperature=1.0)
LIMITS = RolloutLimits(max_tokens=64)


def action(text: str, *, stop_reason: str = "stop", seed: int = 0) -> Action:
    """The text as a sampler would give it, one token a byte."""
    tokens = tuple(TOKENIZER.encode(text).ids)
    return Action(
        tokens=tokens,
        logprobs=tuple(-0.5 for _ in tokens),
        stop_reason=stop_reason,
        seed=seed,
        provenance=PROVENANCE,
    )


@dataclass(kw_only=True)
class Request:
    """What a completer was asked."""

    prompt: str
    stop: StopCondition
    seed: int
    n: int


@dataclass(kw_only=True)
class Scripted(Completer):
    """Says `says(prompt, seed, i)`; an exception that it returns is raised. `asked`: all that was asked."""

    says: Callable[[str, int, int], str | Exception]
    asked: list[Request] = field(default_factory=list)

    async def complete(self, prompt: ModelInput, *, stop: StopCondition, seed: int, n: int = 1) -> list[Action]:
        text = TOKENIZER.decode(prompt.to_ints())
        self.asked.append(Request(prompt=text, stop=stop, seed=seed, n=n))
        await asyncio.sleep(0)
        said = [self.says(text, seed, i) for i in range(n)]
        for one in said:
            if isinstance(one, Exception):
                raise one
        return [action(str(one), seed=seed) for one in said]


def digits(prompt: str, seed: int, i: int) -> str:
    """Two digits that differ from seed to seed, as a model's whole answer."""
    del prompt
    return f"{(seed + 7 * i) % 90 + 10}<|im_end|>"


@dataclass(kw_only=True)
class Recorded(Graders):
    """Gives what `verdicts` says for the grader's name; `places`: where it was asked."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)

    async def grade(self, grader: str, item: Mapping[str, Any], *, place: str) -> Verdict:
        del item
        self.places.append(place)
        return self.verdicts[grader]


def seat(graders: Graders | None = None, *, member: int = 0, seed: int = 5) -> Seat:
    return Seat(surroundings=Surroundings(seed=seed, graders=graders or Recorded(), place="0/0"), member=member)


@dataclass(kw_only=True, eq=False)
class Echo(MessageEnv):
    """Asks for more until it has heard `turns` answers; each earns its share of ones among its digits."""

    turns: int = 2
    start: str = "go"

    async def opening(self) -> Sequence[Message]:
        return [Message(role="user", content=self.start)]

    async def reply(self, message: Message) -> Reply:
        text = text_of(message)
        for _ in range(7 * self.seat.member % 5):
            await asyncio.sleep(0)
        again = [] if self.turn + 1 >= self.turns else [Message(role="user", content=f"you said {text}")]
        return Reply(reward=text.count("1") / 2, messages=again, metrics={"length": len(text)})


class TakeAway(Game):
    """Two players take 1 to 3 from a heap in turns; who takes the last wins. What is no such number loses."""

    def __init__(self, seed: int) -> None:
        self.heap, self.next, self.last = 4 + seed % 4, 0, ""
        self.loser: int | None = None

    @property
    def players(self) -> int:
        return 2

    @property
    def mover(self) -> int | None:
        return self.next if self.loser is None else None

    def observe(self, player: int) -> Sequence[Message]:
        return [Message(role="user", content=f"{self.last}You are player {player}. {self.heap} are left.")]

    def move(self, player: int, text: str) -> None:
        taken = int(text) if text.isdigit() else 0
        if not 1 <= taken <= min(3, self.heap):
            self.loser = player
            return
        self.heap, self.next, self.last = self.heap - taken, 1 - player, f"The other took {taken}. "
        if self.heap == 0:
            self.loser = 1 - player

    def forfeit(self, player: int) -> None:
        self.loser = player

    def rewards(self) -> Sequence[float]:
        return [-1.0 if player == self.loser else 1.0 for player in (0, 1)]


async def rolled(builder: EnvGroupBuilder, completer: Completer, **options: Any) -> TrajectoryGroup:
    """The group of index 3 and seed 11 of step 2, but for what is given."""
    given = {"index": 3, "seed": 11, "graders": Recorded(), "step": 2, "limits": LIMITS, **options}
    return await rollout_group(builder, completer, **given)


def said(group: TrajectoryGroup) -> list[list[str]]:
    """What each member's policy said, turn by turn."""
    return [[TOKENIZER.decode(turn.action.tokens) for turn in one.transitions] for one in group.trajectories]
