"""Does `crucible serve` start, say what to export, refuse in a sentence, and end in order; and `crucible keys`?"""

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from crucible.__main__ import main
from crucible.errors import ConfigError, ManifestError
from crucible.runtime.serving import read_limits, read_models
from crucible.server.limits import Limits
from served_process import served_process


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_a_server_says_what_to_export_serves_and_ends_in_order(said, tmp_path: Path, tiny_model: Path) -> None:
    headers = {"X-API-Key": "tml-local"}
    with served_process(tmp_path / "data", "--model", f"org/tiny={tiny_model}") as server:
        assert server.exports == (f"export TINKER_BASE_URL={server.url}", "export TINKER_API_KEY=tml-local")
        with httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as http:
            offered = http.get("/api/v1/get_server_capabilities").json()["supported_models"]
            assert [model["model_name"] for model in offered] == ["org/tiny"]
            asked = {"model": "org/tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
            assert http.post("/v1/chat/completions", json=asked).json()["usage"]["completion_tokens"] <= 3
            measured = http.get("/metrics").text
            assert (
                'crucible_server_requests_total{method="POST",route="/chat/completions",status="200"} 1.0' in measured
            )
            assert "crucible_server_sessions 0.0" in measured
            assert http.get("/healthz").json() == {"status": "ok"}
            code, text = said("serve", "--model", tiny_model, "--port", 0, "--data", tmp_path / "data")
            assert (code, "another server keeps its data here" in text) == (2, True)
            url = f"sqlite:///{tmp_path / 'data' / 'server.db'}"
            code, text = said("serve", "--model", tiny_model, "--port", 0, "--data", tmp_path / "b", "--database", url)
            assert (code, "another server uses this database" in text) == (2, True)
            answers = _polls_while(lambda: server.stop(), http)
        assert server.process.returncode == 0
        assert answers == [(408, "try_again")]
        assert "stopped; saved checkpoints are kept" in server.said.read_text()
        assert "tml-local" not in server.said.read_text()


def _polls_while(stop: Any, http: httpx.Client) -> list[tuple[int, str]]:
    """What a poll for a result that is long in coming is answered when the server is stopped."""
    session = http.post("/api/v1/create_session", json={"tags": [], "sdk_version": "0"}).json()["session_id"]
    made = {"session_id": session, "sampling_session_seq_id": 0, "base_model": "org/tiny"}
    sampler = http.post("/api/v1/create_sampling_session", json=made).json()["sampling_session_id"]
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]}
    asked = {"prompt": prompt, "num_samples": 64, "sampling_params": {"max_tokens": 500, "stop": []}}
    taken = http.post("/api/v1/asample", json={"sampling_session_id": sampler, "seq_id": 0, **asked}).json()
    answers: list[tuple[int, str]] = []

    def poll() -> None:
        answer = http.post("/api/v1/retrieve_future", json={"request_id": taken["request_id"]})
        answers.append((answer.status_code, answer.json().get("type", "")))

    polling = threading.Thread(target=poll)
    polling.start()
    polling.join(timeout=1.0)
    stop()
    polling.join(timeout=60)
    return answers


def test_a_port_that_is_taken_is_one_sentence(said, tmp_path: Path, tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = said("serve", "--model", tiny_model, "--port", port, "--data", tmp_path)
    assert code == 2
    assert text.startswith("error: the server cannot listen here: Address already in use")
    assert text.count("\n") == 1


@pytest.mark.parametrize("model", ["no-such-model", "/no/such/folder", "x=/no/such/folder"])
def test_a_model_that_is_not_there_is_one_sentence(said, tmp_path: Path, model: str) -> None:
    code, text = said("serve", "--model", model, "--port", 0, "--data", tmp_path)
    assert code == 2
    assert "there is no such model" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_keys(said, tmp_path: Path, tiny_model: Path, host: str) -> None:
    code, text = said("serve", "--model", tiny_model, "--host", host, "--port", 0, "--data", tmp_path)
    assert code == 2
    assert "needs keys" in text
    assert "--insecure-any-key" in text


def test_an_address_that_is_not_this_machines_is_one_sentence(said, tmp_path: Path, tiny_model: Path) -> None:
    code, text = said("serve", "--model", tiny_model, "--host", "203.0.113.7", "--port", 0, "--data", tmp_path)
    assert code == 2
    assert "the server cannot listen here" in text


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    said, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "crucible.server.listening", raising=False)
    code, text = said("serve", "--model", tiny_model, "--port", 0, "--data", tmp_path)
    assert code == 2
    assert "pip install 'crucible-kitchen[serve]'" in text


def test_an_option_of_the_engine_that_is_wrong_is_refused(said, tmp_path: Path, tiny_model: Path) -> None:
    code, text = said("serve", "--model", tiny_model, "--port", 0, "--data", tmp_path, "-o", "torch.token_budget=-3")
    assert (code, "token_budget" in text) == (2, True)


def test_models_have_the_names_that_they_are_given_or_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-0.6B"
    folder.mkdir()
    odd = tmp_path / "a=b"
    odd.mkdir()
    given = ["smollm2-135m", "org/hub-id", str(folder), f"Qwen/Qwen3-0.6B={folder}", str(odd)]
    assert read_models(given) == {
        "smollm2-135m": "smollm2-135m",
        "org/hub-id": "org/hub-id",
        "Qwen3-0.6B": str(folder),
        "Qwen/Qwen3-0.6B": str(folder),
        "a=b": str(odd),
    }


def test_two_models_of_one_name_and_none_at_all_are_refused_together() -> None:
    with pytest.raises(ConfigError) as error:
        read_models(["a=x", "a=y", "=z", "b="])
    assert [problem.given for problem in error.value.problems] == ["a", "=z", "b="]


def test_limits_are_set_by_name_and_refused_all_at_once() -> None:
    assert read_limits(["max_models=3", "hold_seconds=1.5"]) == Limits(max_models=3, hold_seconds=1.5)
    with pytest.raises(ConfigError) as error:
        read_limits(["max_model=3", "max_models=many", "max_datums=1.5", "x"])
    assert [problem.given for problem in error.value.problems] == ["max_model=3", "many", "1.5", "x"]
    assert "did you mean max_models?" in error.value.problems[0].fix
    with pytest.raises(ManifestError, match="is not more than 0"):
        read_limits(["max_models=0", "hold_seconds=nan"])


def test_a_key_is_made_listed_renewed_and_revoked(said, tmp_path: Path) -> None:
    def keys(*words: str) -> tuple[int, str]:
        return said("keys", *words, "--data", tmp_path)

    assert "there are no keys" in keys("list")[1]
    code, made = keys("create", "alice")
    (secret,) = (line for line in made.splitlines() if line.startswith("tml-"))
    assert (code, secret[:4], len(secret)) == (0, "tml-", 64)
    assert keys("create", "alice")[0] == 2
    renewed = keys("create", "alice", "--renew")[1].strip()
    assert renewed[:20] == secret[:20] != renewed
    assert "alice" in keys("list")[1]
    assert secret not in keys("list")[1]
    assert keys("revoke", "alice")[0] == 0
    assert "revoked" in keys("list")[1]
    assert keys("revoke", "nobody")[0] == 2
    assert "there is no key of this name (given: nobody)" in keys("revoke", "nobody")[1]


def test_a_database_that_cannot_be_opened_is_one_sentence(said, tmp_path: Path) -> None:
    for url in ("nonsense", "mysql://x", f"sqlite:///{tmp_path}/no/such/folder.db"):
        code, text = said("keys", "list", "--data", tmp_path, "--database", url)
        assert (code, text.count("\n")) == (2, 1)
