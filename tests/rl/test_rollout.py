"""Is a group's rollout a function of its seed and policy, in as few requests as can be, and within its limits?"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import CHAT, LIMITS, TOKENIZER, Echo, Scripted, digits, rolled, said, seat

from crucible.errors import ConfigError, PortError, StaleWeightsError
from crucible.ports.datum import ModelInput
from crucible.ports.future import Future
from crucible.ports.sampling_client import SamplingClient, SamplingSession
from crucible.ports.training_client import SavedWeights
from crucible.testing.fakes import FakeBackend, FakeSamplingClient
from crucible.train.rl.completer import SessionCompleter
from crucible.train.rl.problem_env import ProblemGroupBuilder
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.seat import Seat
from crucible.train.rl.strategy import FailFast, MinimumGroup, RetryMember
from crucible.train.seeding import derive_seed


def echoes(*, turns: int = 2, members: int = 4, start: str = "go") -> ProblemGroupBuilder:
    return ProblemGroupBuilder(
        make_env=lambda seat: Echo(renderer=CHAT, seat=seat, turns=turns, start=start.format(seat.member)),
        group_size=members,
    )


class CutShort(Scripted):
    """Nothing that it says comes to its end."""

    async def complete(self, *args, **options):
        return [replace(one, stop_reason="length") for one in await super().complete(*args, **options)]


async def test_the_same_seed_gives_the_same_group_and_another_seed_another() -> None:
    first = await rolled(echoes(), Scripted(says=digits))
    again = await rolled(echoes(), Scripted(says=digits))
    other = await rolled(echoes(), Scripted(says=digits), seed=12)
    assert first == again
    assert said(first) != said(other)


async def test_a_first_turn_that_all_see_alike_is_one_request_for_all() -> None:
    completer = Scripted(says=digits)
    await rolled(echoes(turns=2, members=4), completer)
    first, *later = completer.asked
    assert (first.n, first.seed) == (4, derive_seed(11, "first turn"))
    assert sorted(one.seed for one in later) == sorted(derive_seed(11, "turn", member, 1) for member in range(4))
    assert {one.n for one in later} == {1}


async def test_members_that_see_different_things_are_asked_apart() -> None:
    completer = Scripted(says=digits)
    await rolled(echoes(turns=1, members=3, start="member {}"), completer)
    assert [(one.seed, one.n) for one in completer.asked] == [(derive_seed(11, "turn", m, 0), 1) for m in range(3)]


async def test_members_whose_turns_end_at_different_stops_are_asked_apart() -> None:
    builder = ProblemGroupBuilder(
        make_env=lambda seat: Echo(renderer=CHAT, seat=seat, turns=2, stop=["abc"[seat.member]]), group_size=3
    )
    completer = Scripted(says=lambda *_: "1")
    await rolled(builder, completer)
    assert sorted((one.n, *one.stop) for one in completer.asked) == [(1, stop) for stop in "aabbcc"]


async def test_a_members_draws_are_its_own_however_many_play_beside_it() -> None:
    few = await rolled(echoes(turns=3, members=2, start="member {}"), Scripted(says=digits))
    many = await rolled(echoes(turns=3, members=6, start="member {}"), Scripted(says=digits))
    assert few.trajectories == many.trajectories[:2]


@settings(max_examples=25)
@given(st.integers(0, 2**32))
async def test_the_order_in_which_completions_come_changes_nothing(order: int) -> None:
    class Late(Scripted):
        async def complete(self, *args, **options):
            for _ in range(order >> len(self.asked) & 3):
                await asyncio.sleep(0)
            return await super().complete(*args, **options)

    apart = echoes(turns=3, members=3, start="member {}")
    assert await rolled(apart, Late(says=digits)) == await rolled(apart, Scripted(says=digits))


async def test_environments_stand_where_verdicts_are_recorded() -> None:
    seats: list[Seat] = []

    def make(seat: Seat) -> Echo:
        seats.append(seat)
        return Echo(renderer=CHAT, seat=seat)

    await rolled(ProblemGroupBuilder(make_env=make, group_size=2), Scripted(says=digits))
    assert [(seat.surroundings.place, seat.surroundings.seed, seat.member) for seat in seats] == [
        ("2/3", 11, 0),
        ("2/3", 11, 1),
    ]


async def test_a_rollout_that_is_cancelled_leaves_nothing_running() -> None:
    class Silent(Scripted):
        async def complete(self, *args, **options):
            self.asked.append((args, options))
            await asyncio.Event().wait()

    completer = Silent(says=digits)
    task = asyncio.create_task(rolled(echoes(members=3, start="member {}"), completer))
    while len(completer.asked) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_as_many_turns_as_are_allowed_and_what_they_earned() -> None:
    limits = replace(LIMITS, max_turns=2)
    group = await rolled(echoes(turns=9, members=1), Scripted(says=lambda *_: "11<|im_end|>"), limits=limits)
    [member] = group.trajectories
    assert (member.ended, len(member.transitions), member.reward) == ("turns", 2, 2.0)


async def test_an_observation_that_would_not_fit_ends_the_episode() -> None:
    limits = RolloutLimits(max_tokens=8, context_length=70)
    group = await rolled(echoes(turns=9, members=1), Scripted(says=lambda *_: "11<|im_end|>"), limits=limits)
    [member] = group.trajectories
    assert member.ended == "context"
    assert [turn.observation.length < 70 for turn in member.transitions] == [True] * len(member.transitions)
    assert member.transitions[-1].result.next_observation.length >= 70


@pytest.mark.parametrize("length", [9, 21])
async def test_a_first_observation_of_21_tokens_that_does_not_fit_is_a_failure_with_a_reason(length: int) -> None:
    completer = Scripted(says=digits)
    group = await rolled(echoes(members=2), completer, limits=RolloutLimits(max_tokens=8, context_length=length))
    assert [one.failure.kind for one in group.trajectories] == ["context", "context"]
    assert group.rewards == [None, None]
    assert completer.asked == []


@pytest.mark.parametrize(
    ("max_tokens", "context_length", "ended"), [(4, None, "cut"), (9, 100, "cut"), (9, 25, "context"), (4, 25, "cut")]
)
async def test_an_answer_that_filled_the_context_is_told_from_one_cut_at_max_tokens(
    max_tokens: int, context_length: int | None, ended: str
) -> None:
    limits = RolloutLimits(max_tokens=max_tokens, context_length=context_length)
    group = await rolled(echoes(members=1), CutShort(says=lambda *_: "1111"), limits=limits)
    [turn] = group.trajectories[0].transitions
    assert turn.observation.length == 21
    assert group.trajectories[0].ended == ended


def test_members_share_their_groups_chance_and_have_their_own() -> None:
    first, second = seat(member=0), seat(member=1)
    shared = [one.group_generator("board", 2).random() for one in (first, second, first)]
    own = [one.generator("board", 2).random() for one in (first, second, first)]
    assert len(set(shared)) == 1
    assert (own[0] == own[2], own[0] == own[1], own[0] == shared[0]) == (True, False, False)


@pytest.fixture
def backend():
    made = FakeBackend()
    yield made
    made.training_client.close()
    made.sampling_client.close()


async def policies(backend: FakeBackend) -> list[tuple[SavedWeights, SamplingSession]]:
    """Two snapshots, an optimizer step apart."""
    from crucible.ports.training_client import AdamParams, SessionConfig

    session = await backend.training_client.start_session(SessionConfig(model="tiny"))
    found = []
    for name in ("old", "new"):
        saved = await backend.training_client.save_weights_for_sampler(session, name)
        found.append((saved, await backend.sampling_client.start_session(model_path=saved.path)))
        await backend.training_client.optim_step(session, AdamParams())
    return found


def sampler(
    client: SamplingClient, session: SamplingSession, policy: SavedWeights | None, **options
) -> SessionCompleter:
    given = {"max_tokens": 8, "temperature": 1.0, **options}
    return SessionCompleter(client, session, policy=policy, **given)


async def test_a_policys_own_tokens_carry_its_version(backend: FakeBackend) -> None:
    _, (new, session) = await policies(backend)
    group = await rolled(echoes(), sampler(backend.sampling_client, session, new))
    drawn = {turn.action.provenance.policy_version for one in group.trajectories for turn in one.transitions}
    assert drawn == {new.policy_version}


@pytest.mark.parametrize("strategy", [FailFast(), RetryMember(), MinimumGroup()])
async def test_tokens_of_older_weights_end_the_run_whatever_the_strategy(backend: FakeBackend, strategy) -> None:
    (_, old_session), (new, _) = await policies(backend)
    with pytest.raises(StaleWeightsError, match="policy version 1"):
        await rolled(echoes(), sampler(backend.sampling_client, old_session, new), strategy=strategy)


async def test_tokens_of_the_base_model_are_no_policys_tokens(backend: FakeBackend) -> None:
    base = await backend.sampling_client.start_session(base_model="tiny")
    [(old, _), _] = await policies(backend)
    with pytest.raises(StaleWeightsError, match="base model"):
        await rolled(echoes(), sampler(backend.sampling_client, base, old))


class Broken(FakeSamplingClient):
    """Gives completions with these changes, or none at all."""

    changes: Mapping[str, Any]

    def sample(self, *args, **options):
        response = super().sample(*args, **options).result()
        broken = tuple(replace(sequence, **self.changes) for sequence in response.sequences if self.changes)
        return Future.ready(replace(response, sequences=broken))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, "2 completions were asked for, and 0 came"),
        ({"tokens": (), "logprobs": ()}, "no token"),
        ({"tokens": (65, 66), "logprobs": (-1.0,)}, "2 tokens came with 1 logprobs"),
        ({"tokens": (65, 66), "logprobs": (-1.0, float("-inf"))}, "token 1 is -inf"),
    ],
)
async def test_what_is_no_completion_is_the_backends_failure(changes: Mapping[str, Any], what: str) -> None:
    client = Broken()
    client.changes = changes
    base = await client.start_session(base_model="tiny")
    with pytest.raises(PortError, match=what):
        await sampler(client, base, None).complete(ModelInput.from_ints([65]), stop=(), seed=0, n=2)
    client.close()


async def test_a_long_prompt_leaves_fewer_tokens_for_the_answer(backend: FakeBackend) -> None:
    base = await backend.sampling_client.start_session(base_model="tiny")
    completer = sampler(backend.sampling_client, base, None, max_tokens=50, context_length=30)
    [drawn] = await completer.complete(ModelInput.from_ints([65] * 27), stop=["~"], seed=0)
    assert (len(drawn.tokens), drawn.stop_reason) == (3, "length")
    with pytest.raises(ConfigError, match="no room"):
        await completer.complete(ModelInput.from_ints([65] * 30), stop=(), seed=0)


async def test_no_stop_condition_means_the_models_own_end(backend: FakeBackend) -> None:
    base = await backend.sampling_client.start_session(base_model="tiny")
    completer = sampler(backend.sampling_client, base, None, max_tokens=200)
    [drawn] = await completer.complete(ModelInput.from_ints([65]), stop=(), seed=0)
    assert drawn.tokens[-1] in TOKENIZER.eos_ids
