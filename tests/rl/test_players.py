"""Does self-play take turns, pay everybody, and never leave a player waiting?"""

import asyncio
from dataclasses import dataclass, replace

import pytest
from playing import CHAT, LIMITS, TOKENIZER, Scripted, TakeAway, rolled, said

from crucible.train.renderers import get_renderer
from crucible.train.rl.players import GameGroupBuilder
from crucible.train.rl.rollout import RolloutError, RolloutLimits
from crucible.train.rl.strategy import FailFast, MinimumGroup, RetryMember
from crucible.train.seeding import derive_seed

HEAP = 4 + derive_seed(11, "game") % 4


def takes(prompt: str, seed: int, i: int) -> str:
    """One of 1, 2 or 3, as the seed says; legal while more than two are left."""
    left = int(prompt.rsplit(" are left", 1)[0].rsplit(" ", 1)[1])
    return f"{1 + (seed + i) % min(3, left)}<|im_end|>"


def games(count: int = 1, *, make=TakeAway) -> GameGroupBuilder:
    return GameGroupBuilder(make_game=make, renderer=CHAT, games=count)


async def test_two_sides_of_a_game_take_turns_and_earn_opposite_rewards() -> None:
    group = await rolled(games(3), Scripted(says=takes))
    assert len(group.trajectories) == 6
    for first, second in zip(group.rewards[::2], group.rewards[1::2], strict=True):
        assert sorted([first, second]) == [-1.0, 1.0]
    taken = sum(int(text[0]) for side in said(group)[:2] for text in side)
    assert taken == HEAP


async def test_self_play_is_a_function_of_the_seed() -> None:
    assert await rolled(games(3), Scripted(says=takes)) == await rolled(games(3), Scripted(says=takes))


async def test_those_who_move_first_are_drawn_in_one_request() -> None:
    completer = Scripted(says=takes)
    await rolled(games(4), completer)
    first = completer.asked[0]
    assert (first.n, first.seed) == (4, derive_seed(11, "first turn"))


async def test_each_side_hears_what_the_other_did_as_a_conversation_of_its_own() -> None:
    group = await rolled(games(), Scripted(says=lambda *_: "1<|im_end|>"))
    first, second = group.trajectories
    assert "player 0" in str(first.first)
    assert "The other took 1" in str(second.first)
    seen, did = first.transitions[0].observation.to_ints(), first.transitions[0].action.tokens
    assert first.transitions[1].observation.to_ints()[: len(seen) + len(did)] == [*seen, *did]


async def test_a_move_that_was_cut_forfeits_and_the_other_is_paid() -> None:
    class Cut(Scripted):
        async def complete(self, *args, **options):
            return [replace(one, stop_reason="length") for one in await super().complete(*args, **options)]

    completer = Cut(says=lambda prompt, *_: "22" if "player 1" in prompt else "1<|im_end|>")
    group = await rolled(games(), completer)
    assert [one.ended for one in group.trajectories] == ["done", "cut"]
    assert group.rewards == [1.0, -1.0]


@pytest.mark.parametrize(
    ("limits", "ended"),
    [(RolloutLimits(max_tokens=8, max_turns=1), "turns"), (RolloutLimits(max_tokens=8, context_length=100), "context")],
)
async def test_a_player_at_its_limit_forfeits_and_the_other_is_paid(limits: RolloutLimits, ended: str) -> None:
    group = await rolled(games(), Scripted(says=lambda *_: "1<|im_end|>"), limits=limits)
    assert group.trajectories[0].ended == ended
    assert group.rewards == [-1.0, 1.0]


async def test_a_move_that_no_conversation_can_hold_forfeits_before_anybody_hears_of_it() -> None:
    class Spelt(Scripted):
        async def complete(self, *args, **options):
            drawn = await super().complete(*args, **options)
            return [replace(one, tokens=(*b"<|im_end|>", one.tokens[-1]), logprobs=(-1.0,) * 11) for one in drawn]

    builder = replace(games(), renderer=get_renderer("template", TOKENIZER))
    group = await rolled(builder, Spelt(says=lambda *_: "1<|im_end|>"))
    assert (group.trajectories[0].ended, group.rewards) == ("malformed", [-1.0, None])


async def test_a_game_that_is_over_before_a_players_first_move_gives_it_no_reward() -> None:
    group = await rolled(games(), Scripted(says=lambda *_: "nine<|im_end|>"))
    assert group.rewards == [-1.0, None]
    assert (group.trajectories[1].failure.kind, group.trajectories[1].transitions) == ("OutOfGame", ())


async def test_who_had_no_move_in_a_game_that_came_to_its_end_does_not_play_again() -> None:
    breaking = Breaking(0, [])
    await rolled(games(make=breaking), Scripted(says=lambda *_: "nine<|im_end|>"), strategy=RetryMember())
    assert len(breaking.made) == 1


@dataclass(frozen=True)
class Breaking:
    """Makes games of which the second breaks at its third move, as often as `times`."""

    times: int
    made: list[int]

    def __call__(self, seed: int) -> TakeAway:
        self.made.append(seed)
        game = TakeAway(seed)
        if len(self.made) % 2 == 0 and len(self.made) <= 2 * self.times:
            game.move = self._breaking(game)
        return game

    def _breaking(self, game: TakeAway):
        moves, move = [], game.move

        def broken(player: int, text: str) -> None:
            moves.append(text)
            if len(moves) == 3:
                raise ConnectionError("the board is gone")
            move(player, text)

        return broken


ONES = Scripted(says=lambda *_: "1<|im_end|>")


async def test_a_game_that_breaks_fails_both_its_players_and_no_other_game() -> None:
    group = await rolled(games(2, make=Breaking(9, [])), ONES, strategy=MinimumGroup())
    assert [one.failure.kind if one.failure else None for one in group.trajectories] == [
        None,
        None,
        "ConnectionError",
        "OutOfGame",
    ]
    assert [reward is None for reward in group.rewards] == [False, False, True, True]


async def test_a_game_that_breaks_is_played_again_by_both_and_leaves_no_trace_in_the_numbers() -> None:
    broken = await rolled(games(2, make=Breaking(1, [])), ONES, strategy=RetryMember())
    assert broken == await rolled(games(2), ONES)


async def test_a_game_that_does_not_begin_is_made_again_for_both_its_players() -> None:
    made: list[TakeAway] = []

    def make(seed: int) -> TakeAway:
        made.append(TakeAway(seed))
        if len(made) == 1:
            made[0].observe = lambda _: 1 / 0
        return made[-1]

    assert await rolled(games(make=make), ONES, strategy=RetryMember()) == await rolled(games(), ONES)


async def test_fail_fast_names_the_player_whose_move_broke_the_game() -> None:
    with pytest.raises(RolloutError, match=r"member 2, turn 1.*the board is gone"):
        await rolled(games(2, make=Breaking(9, [])), ONES, strategy=FailFast())
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_all_games_of_a_group_begin_alike() -> None:
    breaking = Breaking(0, [])
    await rolled(games(3, make=breaking), ONES, limits=LIMITS)
    assert set(breaking.made) == {derive_seed(11, "game")}
