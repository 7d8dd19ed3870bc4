"""Is a failed rollout data with a reason, is only what failed tried again, and is what concerns the run raised?"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from playing import CHAT, Echo, Scripted, digits, rolled, said

from crucible.errors import ConfigError, PortError
from crucible.train.graders.verdict import Verdict
from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.rollout import RolloutError, RolloutLimits
from crucible.train.rl.seat import Seat
from crucible.train.rl.strategy import FailFast, MinimumGroup, RetryMember
from crucible.train.rl.types import Env, GroupReward
from crucible.train.seeding import derive_seed

FLAKE = ConnectionError("the box\nis gone")


@dataclass(frozen=True, kw_only=True)
class Flaky(ProblemGroupBuilder):
    """Three echoes of two turns; `fails` says at which (attempt, member, moment) the environment raises; `met` holds
    all moments that were come to. Moments: `make`, `first`, and the turns by number. Member `None` is the builder."""

    make_env: object = None
    group_size: int = 3
    fails: Sequence[tuple[int, int | None, object]] = ()
    met: list[tuple[int, int | None, object]] = field(default_factory=list)
    error: Exception = FLAKE
    drifts: bool = False

    async def make_envs(self, surroundings) -> Sequence[Env]:
        attempt = sum(moment == "make" for _, _, moment in self.met)
        self.meet(attempt, None, "make")
        seats = [Seat(surroundings=surroundings, member=member) for member in range(self.group_size)]
        return [FlakyEcho(renderer=CHAT, seat=seat, builder=self, attempt=attempt) for seat in seats]

    def meet(self, *moment: object) -> None:
        self.met.append(moment)
        if moment in self.fails:
            raise self.error


@dataclass(kw_only=True, eq=False)
class FlakyEcho(Echo):
    builder: Flaky
    attempt: int

    async def opening(self):
        self.builder.meet(self.attempt, self.seat.member, "first")
        self.start = f"attempt {self.attempt}" if self.builder.drifts else self.start
        return await super().opening()

    async def reply(self, message):
        self.builder.meet(self.attempt, self.seat.member, self.turn)
        return await super().reply(message)


async def undisturbed():
    return await rolled(Flaky(), Scripted(says=digits))


async def test_fail_fast_names_group_problem_member_and_turn() -> None:
    with pytest.raises(RolloutError, match=r"group 3 \(problem\), member 1, turn 1.*ConnectionError") as caught:
        await rolled(Flaky(fails=[(0, 1, 1)]), Scripted(says=digits), strategy=FailFast())
    assert caught.value.__cause__ is FLAKE


@pytest.mark.parametrize("moment", ["first", 0, 1])
async def test_a_failure_that_passes_leaves_no_trace_in_the_numbers(moment) -> None:
    builder = Flaky(fails=[(0, 1, moment)])
    assert await rolled(builder, Scripted(says=digits), strategy=RetryMember()) == await undisturbed()
    assert builder.met.count((1, 1, "first")) == 1


async def test_first_observations_that_all_fail_once_leave_no_trace_in_the_numbers() -> None:
    builder = Flaky(fails=[(0, member, "first") for member in range(3)])
    assert await rolled(builder, Scripted(says=digits), strategy=RetryMember()) == await undisturbed()


@pytest.mark.parametrize("members", [2, 3])
async def test_a_member_that_cannot_begin_changes_nothing_for_the_others(members: int) -> None:
    builder = Flaky(group_size=members, fails=[(0, 1, "first")])
    group = await rolled(builder, Scripted(says=digits), strategy=MinimumGroup(members=1))
    whole = await rolled(Flaky(group_size=members), Scripted(says=digits))
    assert group.trajectories[0] == whole.trajectories[0]
    assert group.trajectories[2:] == whole.trajectories[2:]
    assert group.trajectories[1].failure.kind == "ConnectionError"


async def test_members_that_began_play_although_no_other_environment_can_be_made() -> None:
    fails = [(0, 1, "first"), *((attempt, None, "make") for attempt in range(1, 20))]
    group = await rolled(Flaky(fails=fails), Scripted(says=digits), strategy=RetryMember())
    whole = await undisturbed()
    assert [group.trajectories[m] == whole.trajectories[m] for m in range(3)] == [True, False, True]


async def test_an_attempt_that_sees_something_else_is_sampled_anew() -> None:
    completer = Scripted(says=digits)
    await rolled(Flaky(fails=[(0, 1, 1)], drifts=True), completer, strategy=RetryMember())
    assert [one.prompt.count("attempt 1") for one in completer.asked].count(1) == 2


async def test_fail_fast_does_not_wait_for_the_other_members() -> None:
    class Slow(Scripted):
        async def complete(self, *args, **options):
            if options["seed"] == derive_seed(11, "turn", 2, 1):
                await asyncio.Event().wait()
            return await super().complete(*args, **options)

    with pytest.raises(RolloutError, match="member 0"):
        await asyncio.wait_for(rolled(Flaky(fails=[(0, 0, 1)]), Slow(says=digits)), timeout=60)


async def test_a_failure_is_told_in_one_short_line() -> None:
    builder = Flaky(fails=[(0, 1, 0)], error=ValueError("a line\n" * 100_000))
    group = await rolled(builder, Scripted(says=digits), strategy=MinimumGroup())
    what = group.trajectories[1].failure.what
    assert (len(what) <= 500, "\n" in what) == (True, False)


async def test_only_the_member_that_failed_begins_again_and_nothing_is_sampled_twice() -> None:
    builder, completer = Flaky(fails=[(0, 1, 1)]), Scripted(says=digits)
    await rolled(builder, completer, strategy=RetryMember())
    assert [moment for moment in builder.met if moment[0] == 1 and moment[1] != 1] == [(1, None, "make")]
    assert sum(one.n for one in completer.asked) == 3 * 2


async def test_after_its_last_attempt_a_failure_is_data_and_keeps_its_turns() -> None:
    builder = Flaky(fails=[(attempt, 1, 1) for attempt in range(9)])
    group = await rolled(builder, Scripted(says=digits), strategy=RetryMember(attempts=3))
    failed = group.trajectories[1]
    assert (failed.ended, len(failed.transitions), len(failed.first)) == ("failed", 1, 1)
    assert (failed.failure.kind, failed.failure.what, failed.failure.attempts) == (
        "ConnectionError",
        "the box is gone",
        3,
    )
    assert [reward is None for reward in group.rewards] == [False, True, False]


@pytest.mark.parametrize(("members", "left"), [(2, 2), (3, 0)])
async def test_a_group_below_its_minimum_is_failed_as_a_whole(members: int, left: int) -> None:
    group = await rolled(Flaky(fails=[(0, 1, 0)]), Scripted(says=digits), strategy=MinimumGroup(members=members))
    assert sum(reward is not None for reward in group.rewards) == left
    assert len(group.trajectories) == 3
    assert group.trajectories[0].failure is None or "2 of 3" in group.trajectories[0].failure.what


async def test_environments_that_cannot_be_made_are_one_failed_member_that_stands_for_all() -> None:
    group = await rolled(Flaky(fails=[(0, None, "make")]), Scripted(says=digits), strategy=MinimumGroup())
    assert [one.failure.kind for one in group.trajectories] == ["ConnectionError"]


async def test_making_the_environments_is_tried_as_often_as_a_member_is() -> None:
    group = await rolled(Flaky(fails=[(0, None, "make")]), Scripted(says=digits), strategy=RetryMember())
    assert said(group) == said(await undisturbed())


def unreachable(*, retryable: bool) -> PortError:
    return PortError("no answer", port="sampling_client", adapter="made", retryable=retryable)


@pytest.mark.parametrize("request_number", [0, 1])
async def test_a_backend_that_fails_and_recovers_leaves_no_trace_in_the_numbers(request_number: int) -> None:
    completer = Scripted(says=lambda *a: failing if len(completer.asked) - 1 == request_number else digits(*a))
    failing = unreachable(retryable=True)
    assert await rolled(Flaky(), completer, strategy=RetryMember()) == await undisturbed()


async def test_a_backend_that_stays_away_for_the_first_turn_fails_every_member() -> None:
    completer = Scripted(says=lambda *_: unreachable(retryable=True))
    group = await rolled(Flaky(), completer, strategy=RetryMember())
    failed = [(one.failure.kind, one.failure.attempts, one.first[0]["content"]) for one in group.trajectories]
    assert failed == [("PortError", 2, "go")] * 3


@pytest.mark.parametrize("strategy", [FailFast(), RetryMember(), MinimumGroup()])
async def test_a_backend_that_failed_for_good_ends_the_run(strategy) -> None:
    completer = Scripted(says=lambda *_: unreachable(retryable=False))
    with pytest.raises(PortError, match="no answer"):
        await rolled(Flaky(), completer, strategy=strategy)


async def test_a_backends_failure_that_may_pass_stays_what_it_is_and_is_given_its_place() -> None:
    failing = unreachable(retryable=True)
    completer = Scripted(says=lambda *_: failing if len(completer.asked) > 1 else "1<|im_end|>")
    with pytest.raises(PortError) as caught:
        await rolled(Flaky(), completer, strategy=FailFast())
    assert caught.value.retryable
    assert any("group 3" in note and "turn 1" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("strategy", [FailFast(), RetryMember(), MinimumGroup()])
async def test_what_the_run_lacks_ends_it_whatever_the_strategy(strategy) -> None:
    builder = Flaky(fails=[(0, 2, 1)], error=ConfigError.of("there is no grader of that name"))
    with pytest.raises(ConfigError, match="no grader") as caught:
        await rolled(builder, Scripted(says=digits), strategy=strategy)
    assert any("member 2" in note for note in caught.value.__notes__)


class Judged(Flaky):
    """Gives the rewards that `error` holds, or none to anybody."""

    async def compute_group_rewards(self, trajectories, surroundings):
        del trajectories
        return self.error if isinstance(self.error, list) else await super().compute_group_rewards((), surroundings)


async def test_a_group_grader_that_fails_is_no_reward_for_anybody() -> None:
    group = await rolled(Judged(), Scripted(says=digits), strategy=MinimumGroup(members=0))
    assert group.rewards == [None] * 3
    assert {one.verdict.state for one in group.group_rewards} == {"invalid"}
    assert "0 rewards were given for 3 members" in group.group_rewards[0].verdict.detail


async def test_a_group_of_failures_alone_is_not_judged() -> None:
    group = await rolled(Judged(fails=[(0, m, 0) for m in range(3)]), Scripted(says=digits), strategy=MinimumGroup())
    assert [one.verdict for one in group.group_rewards] == [None] * 3


async def test_a_group_reward_is_added_and_its_verdict_may_take_all_reward_away() -> None:
    judged = [GroupReward(reward=2.0), GroupReward(), GroupReward(verdict=Verdict.timed_out("at its limit"))]
    plain = await undisturbed()
    group = await rolled(Judged(error=judged), Scripted(says=digits))
    assert group.rewards == [plain.rewards[0] + 2.0, plain.rewards[1], None]


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -1e308])
@pytest.mark.parametrize("strategy", [FailFast(), MinimumGroup()])
async def test_a_reward_that_is_no_number_is_a_failure_of_the_environment(strategy, reward: float) -> None:
    class Broken(Echo):
        async def reply(self, message):
            reply = await super().reply(message)
            return type(reply)(reward=reward)

    builder = ProblemGroupBuilder(make_env=lambda seat: Broken(renderer=CHAT, seat=seat), group_size=1)
    if strategy.raises:
        with pytest.raises(RolloutError, match=re.escape(f"reward = {reward}")):
            await rolled(builder, Scripted(says=digits), strategy=strategy)
    else:
        group = await rolled(builder, Scripted(says=digits), strategy=strategy)
        assert (group.rewards, group.trajectories[0].failure.kind) == ([None], "ValueError")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [SystemExit(0), asyncio.CancelledError(), Unspeakable()])
async def test_an_environment_that_exits_or_cancels_or_raises_the_unspeakable_has_failed(error) -> None:
    class Leaving(Echo):
        async def reply(self, message):
            del message
            raise error

    builder = ProblemGroupBuilder(make_env=lambda seat: Leaving(renderer=CHAT, seat=seat), group_size=2)
    group = await asyncio.create_task(rolled(builder, Scripted(says=digits), strategy=MinimumGroup()))
    failures = [f"{member.failure.kind} {member.failure.what}" for member in group.trajectories]
    assert [type(error).__name__ in failure for failure in failures] == [True, True]


@dataclass(frozen=True, kw_only=True)
class Hanging(Flaky):
    """Its second member never hears back: from its first observation on, or from a turn on."""

    at: object = 0

    async def make_envs(self, surroundings) -> Sequence[Env]:
        seats = [Seat(surroundings=surroundings, member=member) for member in range(self.group_size)]
        return [HangingEcho(renderer=CHAT, seat=seat, builder=self, attempt=0) for seat in seats]

    async def wait(self, member: int, moment: object) -> None:
        if (member, moment) == (1, self.at):
            await asyncio.Event().wait()


@dataclass(kw_only=True, eq=False)
class HangingEcho(FlakyEcho):
    async def opening(self):
        await self.builder.wait(self.seat.member, "first")
        return await super().opening()

    async def reply(self, message):
        await self.builder.wait(self.seat.member, self.turn)
        return await super().reply(message)


@pytest.mark.parametrize("at", ["first", 0, 1])
async def test_an_environment_that_never_answers_has_failed_after_its_seconds(at: object) -> None:
    limits = RolloutLimits(max_tokens=64, env_seconds=0.05)
    group = await rolled(Hanging(at=at), Scripted(says=digits), strategy=MinimumGroup(), limits=limits)
    assert [one.failure is None for one in group.trajectories] == [True, False, True]
    failure = group.trajectories[1].failure
    assert failure is not None and failure.kind == "TimeoutError"
    assert failure.what == "no answer within env_seconds (0.05): such a run does not repeat"
    with pytest.raises(RolloutError, match=r"member 1, turn \d: .*no answer within env_seconds"):
        await rolled(Hanging(at=at), Scripted(says=digits), limits=limits)


async def test_a_timeout_of_the_environments_own_is_told_as_its_own() -> None:
    builder = Flaky(fails=[(0, 1, 0)], error=TimeoutError("the box is slow"))
    limits = RolloutLimits(max_tokens=64, env_seconds=60.0)
    group = await rolled(builder, Scripted(says=digits), strategy=MinimumGroup(), limits=limits)
    failure = group.trajectories[1].failure
    assert failure is not None and failure.what == "the box is slow"
