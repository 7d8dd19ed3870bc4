"""How do several members play one game? In turns, each in an environment of its own over the game they share."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crucible.train.messages import Message, text_of
from crucible.train.renderers.renderer import Renderer
from crucible.train.rl.message_env import MessageEnv, Reply
from crucible.train.rl.seat import Seat
from crucible.train.rl.types import Ended, Env, EnvGroupBuilder, StopCondition, Surroundings
from crucible.train.seeding import derive_seed


class Game(ABC):
    """The rules and the state of one game over text. All its chance comes from the seed it was made with, so that the
    same moves lead to the same game."""

    @property
    @abstractmethod
    def players(self) -> int:
        """How many play, the same throughout; they are numbered from 0."""

    @property
    @abstractmethod
    def mover(self) -> int | None:
        """Whose move it is; None when the game is over."""

    @abstractmethod
    def observe(self, player: int) -> Sequence[Message]:
        """What the mover hears before its move: at first the rules and the position, then what has happened since it
        last moved. Asked once for each move; never empty."""

    @abstractmethod
    def move(self, player: int, text: str) -> None:
        """The mover says this. An illegal move must not raise: what it leads to is in the rules."""

    @abstractmethod
    def forfeit(self, player: int) -> None:
        """The mover cannot go on (its answer was cut or is malformed, or it came to a limit): the game is over."""

    @abstractmethod
    def rewards(self) -> Sequence[float]:
        """What each player earns, once the game is over."""


class OutOfGame(Exception):
    """A player has no part in how the game ended: it was over before its first move, or another player's environment
    failed. It is no failure of this player's environment, and its rollout is data with this reason."""


class Match:
    """One game in progress, and who waits for a move in it."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self._left: int | None = None
        self._changed = asyncio.Event()

    async def turn_of(self, player: int) -> bool:
        """Wait until it is the player's move (True), or the game is over (False).

        Raises:
            OutOfGame: if a player left before the end.
        """
        while self.game.mover not in (player, None):
            if self._left is not None:
                raise OutOfGame(f"player {self._left} failed, and the game did not come to its end")
            await self._changed.wait()
        return self.game.mover is not None

    def moved(self) -> None:
        """Wake whoever waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    def leave(self, player: int) -> None:
        """The player takes no more part; without effect when the game is over."""
        if self.game.mover is not None and self._left is None:
            self._left = player
            self.moved()


@dataclass(kw_only=True, eq=False)
class PlayerEnv(MessageEnv):
    """One player's side of a match: it hears what concerns it, as a conversation of its own, and is paid at the end."""

    match: Match
    player: int

    @property
    def starts(self) -> bool:
        """Whether its first observation waits for nobody."""
        return self.match.game.mover == self.player

    def leave(self) -> None:
        """Whatever happened, this player's rollout is over: nobody waits for it any more."""
        self.match.leave(self.player)

    async def opening(self) -> Sequence[Message]:
        if not await self.match.turn_of(self.player):
            raise OutOfGame("the game was over before its first move")
        return self.match.game.observe(self.player)

    async def reply(self, message: Message) -> Reply:
        if not self.can_be_history(self.messages):  # the others could not hear of it either
            return await self.ended_early(message, "malformed")
        self.match.game.move(self.player, text_of(message))
        self.match.moved()
        if not await self.match.turn_of(self.player):
            return Reply(reward=self.match.game.rewards()[self.player])
        heard = self.match.game.observe(self.player)
        assert heard, "a player whose move it is hears something"
        return Reply(messages=heard)

    async def ended_early(self, message: Message, ended: Ended) -> Reply:  # noqa: ARG002  (however it reads)
        return Reply(reward=self._forfeited(), ended=ended)

    async def ended_by_limit(self, ended: Ended) -> float:  # noqa: ARG002  (whichever limit)
        return self._forfeited()

    def _forfeited(self) -> float:
        self.match.game.forfeit(self.player)
        assert self.match.game.mover is None, "a game that was forfeited is over"
        self.match.moved()
        return self.match.game.rewards()[self.player]


@dataclass(frozen=True, kw_only=True)
class GameGroupBuilder(EnvGroupBuilder):
    """A group of self-play: `games` games from the same start, every player of each a member.

    The members are the players of game 0, then those of game 1, and so on.

    make_game: from a seed, the group's own, to a new game. stop: what ends a move, instead of the renderer's own.
    name, tagged: as for `ProblemGroupBuilder`.
    """

    make_game: Callable[[int], Game]
    renderer: Renderer
    games: int
    stop: StopCondition = ()
    name: str = "game"
    tagged: tuple[str, ...] = ()

    async def make_envs(self, surroundings: Surroundings) -> Sequence[Env]:
        start = derive_seed(surroundings.seed, "game")
        matches = [Match(self.make_game(start)) for _ in range(self.games)]
        sides = [(match, player) for match in matches for player in range(match.game.players)]
        return [
            PlayerEnv(
                renderer=self.renderer,
                seat=Seat(surroundings=surroundings, member=member),
                stop=self.stop,
                match=match,
                player=player,
            )
            for member, (match, player) in enumerate(sides)
        ]

    @property
    def problem(self) -> str:
        return self.name

    @property
    def tags(self) -> tuple[str, ...]:
        return self.tagged
