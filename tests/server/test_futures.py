"""Does a client learn its outcome as soon as it is there, and what happened if it never will be?"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from calls import Caller, datum

from crucible.server import future_routes
from crucible.server.limits import Limits
from serving import KEY, Serving, fake_served, raw, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """A question is held for 0.2 s, an outcome kept for 3 s."""
    limits = Limits(hold_seconds=0.2, result_ttl=3.0)
    with fake_served(tmp_path, limits=limits) as served, running(served) as serving:
        yield serving


@pytest.fixture
def caller(server: Serving) -> Iterator[Caller]:
    with raw(server) as http:
        yield Caller.new(http)


def test_a_question_is_held_then_answered_with_ask_again(caller: Caller) -> None:
    taken = caller.forward_backward(2).json()  # it waits for request 1
    early = caller.http.post("/retrieve_future", json=taken)
    assert (early.status_code, early.json()["type"], early.json()["queue_state"]) == (408, "try_again", "active")
    caller.forward_backward(1)
    assert caller.ask(taken).status_code == 200


def test_an_outcome_is_the_same_until_its_time_is_over(caller: Caller) -> None:
    taken = caller.forward_backward(1).json()
    first = again = caller.ask(taken)
    while again.status_code == 200:
        assert again.content == first.content
        again = caller.ask(taken)
    assert (again.status_code, "gone" in again.json()["detail"]) == (410, True)
    assert caller.http.post("/retrieve_future", json={"request_id": "nonsense"}).status_code == 404


def test_a_large_outcome_is_announced_first_to_those_who_allow_it(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(future_routes, "INLINE", 10)
    taken = caller.forward_backward(1, datum(tuple(range(50)))).json()
    whole = caller.ask(taken)
    told = caller.http.post("/retrieve_future", json={**taken, "allow_metadata_only": True}).json()
    assert told == {"status": "complete_metadata", "response_payload_size": len(whole.content)}


def test_one_question_for_all_samples_of_a_session(caller: Caller) -> None:
    sampler = caller.sampler()
    taken = [caller.sample(sampler, number)["request_id"] for number in range(3)]
    target = {"type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": 0}
    cursor, done = 0, []
    while len(done) < 3:
        told = caller.post("/retrieve_futures", {"target": target, "prev_cursor": cursor})
        cursor, done = told["cursor"], done + told["completions"]
    assert [each["request_id"] for each in done] == taken
    assert {each["state"] for each in done} == {"finished"}
    dropped = {"target": target, "prev_cursor": cursor, "timeout": 0, "retrieved_request_ids": taken[:1]}
    assert caller.post("/retrieve_futures", dropped) == {"completions": [], "cursor": cursor}
    assert caller.http.post("/retrieve_future", json={"request_id": taken[0]}).status_code == 410


def test_a_cancelled_request_says_so_at_once(caller: Caller) -> None:
    taken = caller.forward_backward(2).json()  # it waits for request 1
    assert caller.http.post("/cancel_future", json={"request_id": taken["request_id"]}).status_code == 204
    assert "cancelled" in caller.failure(taken)[0]


async def test_hundreds_who_wait_leave_nothing_behind_when_they_go(fake_server: Serving, http: httpx.Client) -> None:
    caller = Caller.new(http)
    taken = caller.forward_backward(2).json()  # it waits for request 1
    result = fake_server.live.results.find(taken["request_id"], "local")
    options = {"headers": {"X-API-Key": KEY}, "limits": httpx.Limits(max_connections=None), "timeout": 60}
    async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False, **options) as many:
        url = fake_server.url + "/api/v1/retrieve_future"
        polls = [asyncio.create_task(many.post(url, json=taken)) for _ in range(300)]
        while len(result.waiting) < 300:
            await asyncio.sleep(0.02)
        for poll in polls[1:]:
            poll.cancel()
        while len(result.waiting) > 1:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(caller.forward_backward, 1)
        assert (await polls[0]).headers["content-type"] == "application/x-protobuf"
