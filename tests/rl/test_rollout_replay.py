"""Is an environment that does something else the second time found out, and one that does not left alone?"""

import itertools
from dataclasses import replace

import pytest
from playing import CHAT, LIMITS, Echo, Recorded, Scripted, TakeAway, digits, rolled

from crucible.train.graders.verdict import Verdict
from crucible.train.messages import Message
from crucible.train.rl.message_env import Reply
from crucible.train.rl.players import GameGroupBuilder
from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.replay import replay_differences
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.strategy import MinimumGroup
from crucible.train.rl.types import EnvGroupBuilder, GroupReward

CLOCK = itertools.count()
"""As good as a clock: never twice the same."""


async def differences(builder: EnvGroupBuilder, *, limits: RolloutLimits = LIMITS, says=digits) -> list[str]:
    group = await rolled(builder, Scripted(says=says), limits=limits, strategy=MinimumGroup(members=0))
    return await replay_differences(builder, group, seed=11, graders=Recorded(), step=2, limits=limits)


def echoes(kind: type[Echo] = Echo, **options: object) -> ProblemGroupBuilder:
    return ProblemGroupBuilder(make_env=lambda seat: kind(renderer=CHAT, seat=seat, **options), group_size=2)


class Opens(Echo):
    async def opening(self):
        return [Message(role="user", content=f"at {next(CLOCK)}")]


class Pays(Echo):
    async def reply(self, message):
        return replace(await super().reply(message), reward=float(next(CLOCK)))


class Hears(Echo):
    async def reply(self, message):
        reply = await super().reply(message)
        return replace(reply, messages=[Message(role="user", content=f"{next(CLOCK)}")] if reply.messages else [])


class Grades(Echo):
    async def reply(self, message):
        return replace(await super().reply(message), verdict=Verdict.of(1.0, f"at {next(CLOCK)}"))


@pytest.mark.parametrize(
    "builder",
    [echoes(), echoes(turns=9), GameGroupBuilder(make_game=TakeAway, renderer=CHAT, games=2)],
    ids=["whole", "limited", "game"],
)
async def test_what_is_a_function_of_seed_and_actions_is_left_alone(builder: EnvGroupBuilder) -> None:
    assert await differences(builder, limits=replace(LIMITS, max_turns=4)) == []


async def test_a_game_that_was_over_before_a_players_move_is_played_again_too() -> None:
    builder = GameGroupBuilder(make_game=TakeAway, renderer=CHAT, games=1)
    assert await differences(builder, says=lambda *_: "nine<|im_end|>") == []


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Opens, "member 0: turn 0: another observation"),
        (Pays, "member 0: turn 0: another reward"),
        (Hears, "member 0: turn 0: another next observation"),
        (Grades, "member 0: turn 0: another verdict"),
    ],
)
async def test_what_depends_on_a_clock_is_found_out(kind: type[Echo], what: str) -> None:
    found = await differences(echoes(kind))
    assert found[0] == what
    assert len(found) == 2


async def test_first_observations_that_now_agree_are_found_out() -> None:
    started = itertools.count()

    class Agrees(Echo):
        async def opening(self):
            return [Message(role="user", content=f"at {min(next(started), 2)}")]

    [found] = await differences(echoes(Agrees))
    assert found.startswith("another observation leads to another draw")


async def test_a_member_more_than_there_was_is_found_out() -> None:
    class Grows(ProblemGroupBuilder):
        async def make_envs(self, surroundings):
            return await replace(echoes(), group_size=2 + next(made)).make_envs(surroundings)

    made = itertools.count()
    [found] = await differences(Grows(make_env=lambda _: None, group_size=2))
    assert "3 completions" in found


async def test_an_episode_that_now_ends_earlier_is_found_out() -> None:
    heard = itertools.count()

    class Leaves(Echo):
        async def reply(self, message):
            return Reply(metrics={"length": 2}) if next(heard) >= 4 else await super().reply(message)

    found = await differences(echoes(Leaves), says=lambda *_: "22<|im_end|>")
    assert found == [f"member {member}: turn 0: another episode done" for member in (0, 1)]


async def test_an_environment_that_now_fails_is_found_out_with_its_reason() -> None:
    made = itertools.count()

    class Fails(Echo):
        async def reply(self, message):
            if next(made) >= 4:
                raise ConnectionError("the box is gone")
            return await super().reply(message)

    found = await differences(echoes(Fails))
    assert (
        found[0]
        == "member 0: it ended (done) after 2 turns, and now (failed) after 0 (ConnectionError: the box is gone)"
    )


async def test_rewards_of_the_group_that_change_are_found_out() -> None:
    class Judged(ProblemGroupBuilder):
        async def compute_group_rewards(self, trajectories, surroundings):
            del surroundings
            return [GroupReward(reward=float(next(CLOCK))) for _ in trajectories]

    builder = Judged(make_env=lambda seat: Echo(renderer=CHAT, seat=seat), group_size=2)
    assert await differences(builder) == ["the group's rewards are others"]


async def test_a_group_with_a_member_that_failed_cannot_be_played_again() -> None:
    class Fails(Echo):
        async def reply(self, message):
            raise ConnectionError(f"the box is gone; it had heard {message}")

    assert await differences(echoes(Fails)) == ["member 0 failed, and what it said last is not known"]
