"""How do TextArena's games become groups? Each game in progress is a `Game`; its players are a group's members.

TextArena (MIT) draws from Python's global random numbers, and numpy's. Each game here has its own: they are put in
place around every call, so that games side by side do not disturb each other, or anything else.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, cast

import numpy as np

from crucible.errors import ConfigError, Problem
from crucible.train.messages import Message
from crucible.train.renderers.renderer import Renderer
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import Environment, EnvironmentRequest, Option
from crucible.train.rl.players import Game, GameGroupBuilder
from crucible.train.rl.types import RLDataset
from crucible.train.seeding import derive_seed

_MOST_PLAYERS = 15
_ROWS = 256
"""Starts of an epoch where no limit is given."""
_YOUR_MOVE = "It is your move."


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a game begins: data of the library's `version`."""

    game: str
    players: int
    seed: int
    version: str


class TextArenaGame(Game):
    """One game of TextArena, in its raw form: the rules' own texts, no board drawn around them.

    What the game tells a player comes as one message, the player's own words left out. A player that cannot go on
    loses as TextArena lets the maker of an invalid move lose: -1, and 1 for the only opponent.
    """

    def __init__(self, start: Start) -> None:
        self._chance = _Chance(start.seed)
        self._players = start.players
        with self._chance:
            self._env = _begun(start.game, players=start.players, seed=start.seed)
        self._over = False
        self._rewards: dict[int, float] | None = None

    @property
    def players(self) -> int:
        return self._players

    @property
    def mover(self) -> int | None:
        return None if self._over else int(self._env.state.current_player_id)

    def observe(self, player: int) -> Sequence[Message]:
        with self._chance:
            seen, heard = self._env.get_observation()
        assert seen == player, "the mover is asked"
        texts = [str(text).strip() for sender, text, _ in heard if sender != player]
        return [Message(role="user", content="\n".join(text for text in texts if text) or _YOUR_MOVE)]

    def move(self, player: int, text: str) -> None:
        assert self.mover == player, "only the mover moves"
        with self._chance:
            self._over, _ = self._env.step(text)

    def forfeit(self, player: int) -> None:
        others = [other for other in range(self._players) if other != player]
        self._rewards = {player: -1.0, **dict.fromkeys(others, 1.0 if len(others) == 1 else 0.0)}
        self._over = True

    def rewards(self) -> Sequence[float]:
        if self._rewards is None:
            with self._chance:
                given, _ = self._env.close()
            self._rewards = _numbers(cast("dict[int, object] | None", given) or {})
        return [self._rewards.get(player, 0.0) for player in range(self._players)]


def _numbers(given: dict[int, object]) -> dict[int, float]:
    """A few of TextArena's games give a sentence for a reward: they fail there, and say which."""
    wrong = [reward for reward in given.values() if not isinstance(reward, int | float)]
    if wrong:
        raise ValueError(f"the game gave a reward that is no number: {wrong[0]!r}")
    return {int(player): float(cast(float, reward)) for player, reward in given.items()}


class _Chance:
    """Global random numbers of its own, for the time of a `with`."""

    def __init__(self, seed: int) -> None:
        self._own: tuple[Any, Any] = (random.Random(seed).getstate(), np.random.RandomState(seed).get_state())
        self._others: tuple[Any, Any] | None = None

    def __enter__(self) -> None:
        assert self._others is None, "a game is entered once at a time"
        self._others = (random.getstate(), np.random.get_state())
        self._set(self._own)

    def __exit__(self, *_: object) -> None:
        assert self._others is not None, "it was entered"
        self._own = (random.getstate(), np.random.get_state())
        self._set(self._others)
        self._others = None

    def _set(self, states: tuple[Any, Any]) -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _library() -> Any:
    import textarena  # pyright: ignore[reportMissingTypeStubs]  (it ships no types)

    return cast(Any, textarena)


def _begun(game: str, *, players: int, seed: int) -> Any:
    env = _library().make(f"{game}-raw")
    env.reset(num_players=players, seed=seed)
    return env


def games() -> Sequence[str]:
    """The names of all games, those that cannot start on this machine included."""
    names: list[str] = list(_library().envs.registration.ENV_REGISTRY)
    return sorted(name.removesuffix("-raw") for name in names if name.endswith("-raw"))


def load_textarena(game: str, request: EnvironmentRequest) -> RLDataset:
    """`rows` starts of one game as groups; those held out come from the same seed, whatever the run's.

    Raises:
        ConfigError: if the game cannot start here (some need files or services that do not come with the package),
            not with so many players, or a group does not hold whole games.
    """
    renderer = request.renderer
    assert renderer is not None, "the registry has asked for a renderer"
    players = _players(game, int(request.options["players"]))
    if request.group_size % players:
        what = f"is no multiple of {players}, the players of {game}: a group holds whole games"
        raise ConfigError.of(what, where="group_size", given=str(request.group_size))
    games_of_group = request.group_size // players

    def group(start: Start) -> GameGroupBuilder:
        return _group(start, renderer, games_of_group)

    seed, release = (request.seed if request.split == "train" else 0), version("textarena")
    starts = [
        Start(game=game, players=players, seed=derive_seed(seed, f"textarena {request.split}", place), version=release)
        for place in range(request.rows or _ROWS)
    ]
    return ProblemDataset(
        starts,
        group,
        groups_per_batch=request.groups_per_batch,
        seed=request.seed,
        shuffle=request.split == "train",
    )


def _group(start: Start, renderer: Renderer, games_of_group: int) -> GameGroupBuilder:
    return GameGroupBuilder(
        make_game=lambda _: TextArenaGame(start),  # the start is the problem's, the same whichever group plays it
        renderer=renderer,
        games=games_of_group,
        name=f"{start.game} {start.seed}",
        tagged=(f"textarena/{start.game}",),
    )


@cache
def _players(game: str, asked: int) -> int:
    """How many play: as many as were asked for, or the fewest with whom the game starts.

    Raises:
        ConfigError: if it does not start.
    """
    said: list[str] = []
    for players in [asked] if asked else range(1, _MOST_PLAYERS + 1):
        try:
            with _Chance(0):
                _begun(game, players=players, seed=0)
        except Exception as error:  # noqa: BLE001  (a game that cannot start says so in any way)
            said.append(" ".join(f"{type(error).__name__}: {error}".split())[:200])
            if isinstance(error, SyntaxError | ImportError | OSError) or type(error) is LookupError:
                break  # files that are not there (LookupError: NLTK's) are there for no number of players
        else:
            return players
    what = f"the game does not start here: {said[-1]}"
    fix = "Choose another number of players, or another game" if asked else "Choose another game"
    raise ConfigError.of(what, where="env", given=f"textarena:{game}", fix=fix)


def _problems(game: str, options: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        _players(game, int(options["players"]))
    except ConfigError as error:
        yield from error.problems


TEXTARENA = Environment(
    name="textarena",
    description="text games for one player or several, who are then played by the policy against itself",
    load=load_textarena,
    list_variants=games,
    example="GuessTheNumber-v0",
    needs_renderer=True,
    extra="environments",
    module="textarena",
    turns=0,
    players=0,
    max_tokens=64,
    check=_problems,
    options={
        "players": Option(
            default=0, least=0, most=_MOST_PLAYERS, description="how many share a game; 0: the fewest it is for"
        )
    },
)
