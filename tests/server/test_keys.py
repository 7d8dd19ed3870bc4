"""Does a key open what is its own, and nothing else, and does it stay secret?"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import tinker
from calls import Caller

from serving import FAKE_MODEL, Serving, fake_served, running


@dataclass(frozen=True, kw_only=True)
class Keyed:
    """A server that asks for keys, and two of its keys."""

    serving: Serving
    alice: str
    bob: str

    def http(self, secret: str) -> httpx.Client:
        """Raw requests with a key."""
        url, headers = self.serving.url + "/api/v1", {"X-API-Key": secret}
        return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)

    def rest(self, secret: str) -> tinker.RestClient:
        """The SDK with a key."""
        return tinker.RestClient(base_url=self.serving.url, api_key=secret)


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    with fake_served(tmp_path / "server") as served:
        alice, bob = (served.store.keys.create(name)[1] for name in ("alice", "bob"))
        with running(served, any_key=False) as serving:
            yield Keyed(serving=serving, alice=alice, bob=bob)


def _saved(http: httpx.Client) -> Caller:
    caller = Caller.new(http)
    for route, name in (("/save_weights", "state"), ("/save_weights_for_sampler", "policy")):
        asked = {"model_id": caller.model_id, "seq_id": next(caller.numbers), "path": name}
        caller.done(caller.post(route, asked))
    return caller


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": "tml-local"}, {"Authorization": "Bearer tml-x"}, {"X-API-Key": ""}]
)
def test_without_one_of_the_servers_keys_nothing_is_answered(keyed: Keyed, headers: dict[str, str]) -> None:
    for path in ("/api/v1/sessions", "/api/v1/nothing/healthz", "/metrics", "/api/v1/signed_downloads", "/v1/models"):
        answer = httpx.get(keyed.serving.url + path, headers=headers, trust_env=False)
        assert (answer.status_code, "API key" in answer.json()["detail"]) == (401, True)


def test_health_needs_no_key(keyed: Keyed) -> None:
    assert httpx.get(keyed.serving.url + "/api/v1/healthz", trust_env=False).status_code == 200


def test_a_key_is_taken_in_either_header(keyed: Keyed) -> None:
    for headers in ({"X-API-Key": keyed.alice}, {"Authorization": f"Bearer {keyed.alice}"}):
        answer = httpx.get(keyed.serving.url + "/api/v1/sessions", headers=headers, trust_env=False)
        assert answer.status_code == 200


def test_a_key_knows_its_name(keyed: Keyed) -> None:
    with keyed.http(keyed.bob) as http:
        assert http.get("/auth/apikey/me").json()["name"] == "bob"


def test_a_key_can_revoke_itself_and_is_refused_from_then_on(keyed: Keyed) -> None:
    with keyed.http(keyed.bob) as http:
        assert http.delete("/auth/apikey/me").status_code == 204
    assert keyed.serving.served.store.keys.owner_of(keyed.bob) is None


def _asked_of(caller: Caller) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Every request that names something of `caller`'s."""
    run, session = caller.model_id, caller.session_id
    state, policy = f"tinker://{run}/weights/state", f"tinker://{run}/sampler_weights/policy"
    checkpoint = f"/training_runs/{run}/checkpoints/weights/state"
    sampling = {"session_id": session, "sampling_session_seq_id": 3}
    return [
        ("GET", f"/training_runs/{run}", None),
        ("GET", f"/training_runs/{run}/checkpoints", None),
        ("GET", f"/sessions/{session}", None),
        ("GET", f"/sessions/{session}/trace_export", None),
        ("PUT", f"/sessions/{session}/project", {"project_id": "p"}),
        ("POST", f"/sessions/{session}/finish", {"reason": {"type": "success"}}),
        ("POST", "/session_heartbeat", {"session_id": session}),
        ("DELETE", checkpoint, None),
        ("POST", f"{checkpoint}/publish", None),
        ("DELETE", f"{checkpoint}/publish", None),
        ("PUT", f"{checkpoint}/ttl", {"ttl_seconds": 3600}),
        ("GET", f"{checkpoint}/archive", None),
        ("GET", f"{checkpoint}/external_weights_urls", None),
        ("POST", "/weights_info", {"tinker_path": state}),
        ("POST", "/copy_weights", {"source_path": state, "destination_project_id": "p"}),
        ("POST", "/get_info", {"model_id": run}),
        ("POST", "/create_model", {"session_id": session, "model_seq_id": 9, "base_model": FAKE_MODEL}),
        ("POST", "/create_sampling_session", {**sampling, "base_model": FAKE_MODEL}),
        ("POST", "/create_sampling_session", {**sampling, "model_path": policy}),
        ("POST", "/optim_step", {"model_id": run, "seq_id": 3, "adam_params": {"learning_rate": 0.1}}),
        ("POST", "/save_weights", {"model_id": run, "seq_id": 3, "path": "x"}),
    ]


def test_another_keys_things_are_answered_as_those_that_do_not_exist(keyed: Keyed) -> None:
    with keyed.http(keyed.alice) as http, keyed.http(keyed.bob) as other:
        hers = _asked_of(_saved(http))
        nobodys = _asked_of(Caller(http=http, session_id="0" * 32, model_id="0" * 32 + ":train:0"))
        for (method, path, body), (_, nowhere, absent) in zip(hers, nobodys, strict=True):
            answer = other.request(method, path, json=body)
            unknown = other.request(method, nowhere, json=absent)
            assert (answer.status_code, method, path) == (unknown.status_code, method, path)
            assert answer.status_code >= 400, (path, answer.text)


def test_another_keys_things_are_in_no_list(keyed: Keyed) -> None:
    with keyed.http(keyed.alice) as http, keyed.http(keyed.bob) as other:
        _saved(http)
        assert other.get("/training_runs").json()["training_runs"] == []
        assert other.get("/checkpoints").json()["checkpoints"] == []
        assert other.get("/sessions").json()["sessions"] == []
        assert other.post("/sessions/search", json={"owner": {"type": "accessible"}}).json()["sessions"] == []
        assert other.get("/billing/usage/checkpoints/current").json()["data"] == []


def test_another_keys_future_is_not_there(keyed: Keyed) -> None:
    with keyed.http(keyed.alice) as http, keyed.http(keyed.bob) as other:
        caller = Caller.new(http)
        taken = caller.post("/save_weights", {"model_id": caller.model_id, "seq_id": 1, "path": "x"})
        caller.done(taken)
        answer = other.post("/retrieve_future", json={"request_id": taken["request_id"]})
        nobodys = taken["request_id"][:-12] + "0" * 12
        unknown = other.post("/retrieve_future", json={"request_id": nobodys})
        assert answer.status_code == unknown.status_code >= 400


def test_a_public_checkpoint_can_be_read_copied_and_loaded_by_another_key_and_no_more(keyed: Keyed) -> None:
    with keyed.http(keyed.alice) as http, keyed.http(keyed.bob) as other:
        caller = _saved(http)
        path = f"tinker://{caller.model_id}/weights/state"
        keyed.rest(keyed.alice).publish_checkpoint_from_tinker_path(path).result()
        bobs = keyed.rest(keyed.bob)
        assert bobs.get_weights_info_by_tinker_path(path).result().base_model == FAKE_MODEL
        copy = bobs.copy_weights(path, "p").result()
        mine = Caller.new(other, model=False)
        for seq, source in enumerate((path, copy)):
            asked = {"session_id": mine.session_id, "model_seq_id": seq, "path": source, "optimizer": True}
            assert "model_id" in mine.done(mine.post("/load_weights", asked))
        checkpoint = f"/training_runs/{caller.model_id}/checkpoints/weights/state"
        for method, below in (("DELETE", ""), ("DELETE", "/publish"), ("PUT", "/ttl")):
            answer = other.request(method, checkpoint + below, json={"ttl_seconds": 3600})
            assert (answer.status_code, "can only be read" in answer.json()["detail"]) == (403, True)
        assert other.get(f"/training_runs/{caller.model_id}").status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("192.168.0.2", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
    ],
)
def test_a_server_without_keys_does_not_answer_to_foreign_names(fake_server: Serving, host: str, status: int) -> None:
    headers = {"X-API-Key": "tml-any", "Host": host}
    assert httpx.get(fake_server.url + "/api/v1/sessions", headers=headers, trust_env=False).status_code == status


def test_a_server_without_keys_takes_any_in_their_form(fake_server: Serving) -> None:
    def status(headers: dict[str, str]) -> int:
        return httpx.get(fake_server.url + "/api/v1/sessions", headers=headers, trust_env=False).status_code

    assert [status({"X-API-Key": "tml-x"}), status({"X-API-Key": "sk-x"}), status({})] == [200, 401, 401]


def test_no_log_has_a_key(
    keyed: Keyed, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    with keyed.http(keyed.alice) as http:
        caller = _saved(http)
        http.get("/nothing")
        http.post("/create_model", content=b"{")
        caller.failure(caller.post("/save_weights", {"model_id": caller.model_id, "seq_id": 3, "path": "../x"}))
    out, err = capfd.readouterr()
    secret = keyed.alice.removeprefix("tml-")[17:]
    written = b"".join(path.read_bytes() for path in (tmp_path / "server").rglob("*") if path.is_file())
    assert secret not in caplog.text + out + err
    assert secret.encode() not in written


def test_keys_are_compared_in_the_same_time_whatever_is_wrong(monkeypatch: pytest.MonkeyPatch, keyed: Keyed) -> None:
    compared: list[tuple[str, str]] = []
    real: Callable[[str, str], bool] = __import__("hmac").compare_digest
    monkeypatch.setattr(
        "crucible.store.server_keys.hmac.compare_digest", lambda a, b: compared.append((a, b)) or real(a, b)
    )
    keys = keyed.serving.served.store.keys
    assert keys.owner_of(keyed.alice[:-1] + "_") in (None, keyed.alice[4:20])
    assert keys.owner_of(f"tml-{'f' * 16}-{'a' * 43}") is None
    assert len(compared) == 2
