"""Do TextArena's games keep their chance to themselves, pay as they say, and fill whole groups?"""

import random
import re

import numpy as np
import pytest
from asking import builders, names, request
from playing import Scripted, rolled

from crucible.errors import ConfigError
from crucible.train.messages import text_of
from crucible.train.rl.environments.registry import load_environment
from crucible.train.rl.environments.textarena_games import Start, TextArenaGame, games

NUMBER, TICTACTOE, DICE = "GuessTheNumber-v0", "TicTacToe-v0", "PigDice-v0"


def start(game: str, *, players: int, seed: int = 11) -> Start:
    return Start(game=game, players=players, seed=seed, version="")


def heard(game: TextArenaGame) -> str:
    """What the mover is told."""
    [message] = game.observe(game.mover or 0)
    return text_of(message)


def rolls(game: TextArenaGame, count: int) -> list[str]:
    """What the players of PigDice hear who do nothing but roll."""
    said: list[str] = []
    for _ in range(count):
        said.append(heard(game))
        game.move(game.mover or 0, "[roll]")
    return said


def test_the_rules_come_first_and_then_only_what_is_new() -> None:
    game = TextArenaGame(start(NUMBER, players=1))
    rules = heard(game)
    game.move(0, "I say [1]")
    assert "Guess The Number" in rules
    assert heard(game) == "The target number is higher."


def test_the_same_start_and_moves_are_the_same_game_though_others_go_on_beside_it() -> None:
    alone = rolls(TextArenaGame(start(DICE, players=2)), 8)
    one, other = TextArenaGame(start(DICE, players=2)), TextArenaGame(start(DICE, players=2, seed=12))
    beside: list[str] = []
    for _ in range(8):
        random.seed(99)
        rolls(other, 1)
        beside += rolls(one, 1)
    assert beside == alone
    fallen = re.findall(r"'(\d)'", alone[-1].split("roll history")[1])
    assert len(set(fallen)) > 1, "the dice go on falling"


def test_a_game_leaves_the_global_random_numbers_as_they_are() -> None:
    random.seed(99)
    np.random.seed(99)
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()
    rolls(TextArenaGame(start(DICE, players=2)), 3)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == (before, numpy_before)


def test_who_wins_is_paid_and_who_loses_pays() -> None:
    game = TextArenaGame(start(TICTACTOE, players=2))
    for cell in (0, 3, 1, 4, 2):
        assert "Tic Tac Toe" in heard(game) or cell not in (0, 3)
        game.move(game.mover or 0, f"[{cell}]")
    assert (game.mover, list(game.rewards())) == (None, [1.0, -1.0])


@pytest.mark.parametrize(("name", "players", "rewards"), [(NUMBER, 1, [-1.0]), (TICTACTOE, 2, [-1.0, 1.0])])
def test_who_cannot_go_on_loses_as_the_maker_of_an_invalid_move_does(
    name: str, players: int, rewards: list[float]
) -> None:
    game = TextArenaGame(start(name, players=players))
    game.forfeit(0)
    assert (game.mover, list(game.rewards())) == (None, rewards)


async def test_a_group_plays_its_games_to_the_end_against_itself() -> None:
    [builder, *_] = builders(load_environment(f"textarena:{TICTACTOE}", request(rows=1, group_size=4)))
    group = await rolled(builder, Scripted(says=first_free_cell))
    assert [trajectory.failure for trajectory in group.trajectories] == [None] * 4
    assert group.rewards == [1.0, -1.0, 1.0, -1.0]
    assert group.tags == (f"textarena/{TICTACTOE}",)


def first_free_cell(prompt: str, seed: int, i: int) -> str:
    """Players who fill the board from the top: the first one wins."""
    taken = prompt.count("<|im_start|>assistant") - 1
    player = 1 if "You are Player 1" in prompt else 0
    return f"[{2 * taken + player}]<|im_end|>"


def test_a_seed_changes_the_training_games_and_never_the_held_out_ones() -> None:
    spec = f"textarena:{NUMBER}"
    train, held = (
        [names(load_environment(spec, request(rows=5, seed=seed, split=split))) for seed in (1, 2)]
        for split in ("train", "eval")
    )
    assert set(train[0]).isdisjoint(train[1])
    assert held[0] == held[1]
    assert set(train[0]).isdisjoint(held[0])


@pytest.mark.parametrize(
    ("game", "given", "said"),
    [
        (TICTACTOE, {"group_size": 3}, "no multiple of 2"),
        (TICTACTOE, {"players": 3}, "does not start here"),
        ("ScorableGames-v0", {}, "does not start here: FileNotFoundError"),
    ],
)
def test_a_game_that_cannot_be_played_so_is_refused_by_the_reason(game: str, given: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_environment(f"textarena:{game}", request(**given))


def test_games_are_named_without_their_wrappers() -> None:
    assert {NUMBER, TICTACTOE} <= set(games())
    assert not [name for name in games() if name.endswith("-raw")]
