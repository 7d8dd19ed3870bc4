"""Are outcomes there for whom they are, as often as they are asked for, and gone when their time is over?"""

import asyncio

import pytest

from crucible.server.refusals import Failure, Refusal
from crucible.server.results import Payload, Results


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def results(clock: Clock) -> Results:
    return Results(keep=10, most_bytes=1000, clock=clock)


def status(results: Results, request_id: str, owner: str) -> int:
    with pytest.raises(Refusal) as caught:
        results.find(request_id, owner)
    return caught.value.status


def test_an_outcome_can_be_read_again_until_its_time_is_over(results: Results, clock: Clock) -> None:
    result = results.open("me")
    results.finish(result, Payload(body=b"x"))
    clock.now = 9.9
    results.sweep()
    assert results.find(result.request_id, "me").payload == Payload(body=b"x")
    clock.now = 10.0
    results.sweep()
    assert status(results, result.request_id, "me") == 410


def test_anothers_request_looks_like_one_that_is_gone(results: Results) -> None:
    mine = results.open("me")
    made_up = mine.request_id[:-12] + "0" * 12
    assert status(results, mine.request_id, "you") == status(results, made_up, "you") == 410
    assert status(results, "nonsense", "you") == 404


def test_a_request_of_an_earlier_server_is_gone(results: Results) -> None:
    earlier = Results(keep=10, most_bytes=1000, clock=Clock()).open("me")
    assert status(results, earlier.request_id, "me") == 410
    never = results.open("me").request_id.replace("-1-", "-ff-")
    assert status(results, never, "me") == 404


def test_the_first_outcome_counts(results: Results) -> None:
    result = results.open("me")
    results.fail(result, Failure(error="cancelled", category="user"))
    results.finish(result, Payload(body=b"late"))
    assert result.failed
    assert result.payload is not None
    assert b"cancelled" in result.payload.body


def test_when_there_are_too_many_bytes_those_that_were_read_go_first(results: Results) -> None:
    old, read, new = (results.open("me") for _ in range(3))
    for result in (old, read):
        results.finish(result, Payload(body=b"x" * 400))
    read.read = True
    results.finish(new, Payload(body=b"x" * 300))
    assert status(results, read.request_id, "me") == 410
    assert results.find(old.request_id, "me") is old
    assert results.counts == (0, 2, 700)


async def test_two_who_wait_for_one_outcome_both_get_it(results: Results) -> None:
    result = results.open("me")
    waits = [asyncio.create_task(results.wait(result, 5)) for _ in range(2)]
    await asyncio.sleep(0)
    results.finish(result, Payload(body=b"x"))
    assert await asyncio.gather(*waits) == [True, True]
    assert result.waiting == []


async def test_a_wait_ends_in_time_and_leaves_nothing_behind(results: Results) -> None:
    result = results.open("me")
    assert not await results.wait(result, 0.01)
    wait = asyncio.create_task(results.wait(result, 60))
    await asyncio.sleep(0)
    wait.cancel()
    await asyncio.wait([wait])
    assert result.waiting == []


def test_what_has_expired_is_freed_whoever_remembers_the_request(results: Results) -> None:
    remembered = [results.open("me") for _ in range(1000)]  # as the replays of a sampler do
    for result in remembered:
        results.finish(result, Payload(body=b"x" * 100))
    assert sum(len(result.payload.body) for result in remembered if result.payload is not None) <= 1000
    results.finish(remembered[0], Payload(body=b"again"))
    assert remembered[0].payload is None
