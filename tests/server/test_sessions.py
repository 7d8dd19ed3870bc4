"""Does a session end when its client says so, or is not heard of any more, and does all that it held go with it?"""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from calls import Caller, until

from crucible.server.limits import Limits
from serving import FAKE_MODEL, Serving, fake_served, raw, running


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Serving]:
    """A session lives for 1.5 s without a heartbeat."""
    with fake_served(tmp_path, limits=Limits(session_timeout=1.5)) as served, running(served) as server:
        yield server


def statuses(caller: Caller, sampler: str) -> set[int]:
    """Of every kind of request to what the session held."""
    tokens = {"prompt": {"chunks": [{"tokens": [1]}]}, "sampling_params": {"max_tokens": 1}}
    bodies = {
        "/session_heartbeat": {"session_id": caller.session_id},
        "/get_info": {"model_id": caller.model_id},
        "/optim_step": {"model_id": caller.model_id, "seq_id": 99},
        "/asample": {"sampling_session_id": sampler, "seq_id": 99, **tokens},
        "/join_sampling_session": {"sampling_session_id": sampler},
        "/create_model": {"session_id": caller.session_id, "model_seq_id": 9, "base_model": FAKE_MODEL},
    }
    return {caller.http.post(path, json=body).status_code for path, body in bodies.items()} | {
        caller.forward_backward(99).status_code,
        caller.http.get(f"/samplers/{sampler}").status_code,
    }


def test_a_finished_session_is_gone_with_all_that_it_held(fake_server: Serving, http: httpx.Client) -> None:
    caller = Caller.new(http)
    sampler = caller.sampler()
    waits = caller.forward_backward(2).json()
    finish = {"reason": {"type": "success"}, "detail": "done"}
    for _ in range(2):
        assert http.post(f"/sessions/{caller.session_id}/finish", json=finish).status_code == 204
    assert statuses(caller, sampler) == {410}
    assert "has ended" in caller.failure(waits)[0]
    live = fake_server.live
    assert not (live.sessions or live.runs or live.samplers)
    until(lambda: not fake_server.served.training._adapters and not fake_server.served.sampling._sessions)


def test_a_session_that_is_not_heard_of_expires(short: Serving) -> None:
    with raw(short) as http:
        caller = Caller.new(http)
        sampler = caller.sampler()
        until(lambda: not short.live.sessions)
        assert statuses(caller, sampler) == {410}
        record = short.served.store.session(caller.session_id, owner="local")
        assert record is not None
        until(lambda: short.served.store.session(caller.session_id, owner="local").end_reason == "expired")


def test_a_heartbeat_says_that_a_session_is_alive(fake_server: Serving, http: httpx.Client) -> None:
    caller = Caller.new(http, model=False)
    session = fake_server.live.sessions[caller.session_id]
    before = session.seen_at
    assert caller.post("/session_heartbeat", {"session_id": caller.session_id}) == {"type": "session_heartbeat"}
    assert session.seen_at > before


def test_what_never_was_is_not_found(http: httpx.Client) -> None:
    caller = Caller(http=http, session_id="none", model_id="none:train:0")
    assert statuses(caller, "none:sample:0") == {404}
    assert http.post("/sessions/none/finish", json={"reason": {"type": "success"}}).status_code == 404


def test_a_server_that_starts_again_says_what_was_lost(tmp_path: Path) -> None:
    with fake_served(tmp_path) as served, running(served) as server, raw(server) as http:
        caller = Caller.new(http)
        sampler = caller.sampler()
        path = caller.done(caller.call("/save_weights", path="kept"))["path"]
        pending = caller.forward_backward(7).json()
    with fake_served(tmp_path) as served, running(served) as server, raw(server) as http:
        caller.http = http
        assert statuses(caller, sampler) == {410}
        assert caller.http.post("/retrieve_future", json=pending).status_code == 410
        again = Caller.new(http, model=False)
        load = {"session_id": again.session_id, "model_seq_id": 0, "path": path, "optimizer": True}
        assert again.done(again.post("/load_weights", load))["model_id"] == f"{again.session_id}:train:0"


def test_anothers_things_look_like_what_never_was(tmp_path: Path) -> None:
    with fake_served(tmp_path) as served:
        mine, yours = (served.store.keys.create(name)[1] for name in ("mine", "yours"))
        with running(served, any_key=False) as server, raw(server, key=mine) as http, raw(server, key=yours) as other:
            caller = Caller.new(http)
            sampler = caller.sampler()
            path = caller.done(caller.call("/save_weights", path="kept"))["path"]
            taken = caller.forward_backward(2).json()
            caller.http = other
            assert statuses(caller, sampler) == {404}
            assert other.post("/retrieve_future", json=taken).status_code == 410
            thief = Caller.new(other, model=False)
            load = {"session_id": thief.session_id, "model_seq_id": 0, "path": path, "optimizer": False}
            assert "no such checkpoint" in thief.failure(thief.post("/load_weights", load))[0]
            sessions = {"session_id": caller.session_id, "model_seq_id": 1, "base_model": FAKE_MODEL}
            assert other.post("/create_model", json=sessions).status_code == 404


def test_more_models_than_may_be_open_fail_in_their_futures(tmp_path: Path) -> None:
    with (
        fake_served(tmp_path, limits=Limits(max_models=1, max_sessions=2)) as served,
        running(served) as server,
        raw(server) as http,
    ):
        caller = Caller.new(http)
        more = {"session_id": caller.session_id, "model_seq_id": 1, "base_model": FAKE_MODEL}
        message, category = caller.failure(caller.post("/create_model", {**more, "lora_config": {"rank": 1}}))
        assert (category, "as many models" in message) == ("server", True)
        Caller.new(http, model=False)
        assert http.post("/create_session", json={}).status_code == 429


def test_a_session_that_ends_while_its_model_is_made_leaves_no_model(fake_server: Serving, http: httpx.Client) -> None:
    gate, training = threading.Event(), fake_server.served.training
    caller = Caller.new(http, model=False)
    training._queue.submit(gate.wait)  # the backend is busy
    made = {"session_id": caller.session_id, "model_seq_id": 0, "base_model": FAKE_MODEL}
    taken = caller.post("/create_model", {**made, "lora_config": {"rank": 1}})
    http.post(f"/sessions/{caller.session_id}/finish", json={"reason": {"type": "errored"}})
    gate.set()
    assert "has ended" in caller.failure(taken)[0]
    until(lambda: not training._adapters)
    assert not fake_server.live.runs


def test_the_clients_switches_and_health_need_no_session(fake_server: Serving, http: httpx.Client) -> None:
    assert http.post("/client/config", json={"sdk_version": "0"}).json()["pjwt_auth_enabled"] is False
    assert http.post("/client/dynamic_config", json={"sdk_version": "0"}).json()["refresh_interval_sec"] == 300
    assert http.post("/telemetry", json={"events": []}).json() == {"status": "accepted"}
    assert httpx.get(fake_server.url + "/api/v1/healthz", trust_env=False).json() == {"status": "ok"}
    models = http.get("/get_server_capabilities").json()["supported_models"]
    assert [(each["model_name"], each["trainable"], each["sampleable"]) for each in models] == [
        (FAKE_MODEL, True, True)
    ]


def test_a_path_that_is_not_there_is_answered_in_json(http: httpx.Client) -> None:
    for response in (http.get("/nothing"), http.get("/optim_step"), http.post("/auth/token")):
        assert response.status_code in (404, 405)
        assert response.json()["detail"]


def test_a_custom_loss_on_the_server_is_refused_by_name(http: httpx.Client) -> None:
    caller = Caller.new(http, model=False)
    asked = {"session_id": caller.session_id, "custom_loss_seq_id": 0, "name": "mine", "inputs": [], "graph": {}}
    message, category = caller.failure(caller.post("/create_custom_loss", asked))
    assert (category, "custom loss" in message) == ("user", True)


def test_many_clients_at_once_each_have_their_own(fake_server: Serving) -> None:
    found: list[str] = []

    def work() -> None:
        with raw(fake_server) as http:
            caller = Caller.new(http)
            for number in range(1, 6):
                caller.scored(caller.forward_backward(number))
            found.append(caller.model_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8
