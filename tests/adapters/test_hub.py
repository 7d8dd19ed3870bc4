"""The Hugging Face adapter against a hub that really answers over HTTP (`hub_server.py`)."""

import socket
import sys

import pytest
from hub_server import Hub, serving

from crucible.adapters.hub import HfHubClient
from crucible.errors import MissingExtraError, PortError


@pytest.fixture
def hub():
    return Hub(token="sesame")


@pytest.fixture
def url(hub):
    with serving(hub) as url:
        yield url


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)


@pytest.fixture
def repo(hub):
    hub.create("models", "me/mine")
    return hub.commit("models", "me/mine", {"config.json": b"{}"})


def test_the_option_beats_hf_token_which_beats_the_older_name(hub, url, repo, monkeypatch):
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "sesame")
    assert HfHubClient(endpoint=url).info("me/mine").revision == repo
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(PortError):
        HfHubClient(endpoint=url).info("me/mine")
    assert HfHubClient(endpoint=url, token="sesame").info("me/mine").revision == repo


def test_an_empty_variable_is_no_token(url, repo, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "sesame")
    assert HfHubClient(endpoint=url).info("me/mine").revision == repo


def test_a_token_is_in_no_repr_and_no_error(url):
    client = HfHubClient(endpoint=url, token="a-secret-token")
    with pytest.raises(PortError) as raised:
        client.info("me/mine")
    assert "a-secret-token" not in f"{client!r} {raised.value} {raised.value!r} {raised.value.details}"
    assert "set" in repr(client)


def test_a_refused_token_is_not_worth_another_try(url, repo, tmp_path):
    client = HfHubClient(endpoint=url, token="wrong", cache_dir=tmp_path)
    for call in (client.info, client.list_files, client.snapshot, lambda name: client.download(name, "config.json")):
        with pytest.raises(PortError) as raised:
            call("me/mine")
        assert not raised.value.retryable


@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (429, True), (403, False), (404, False)])
def test_a_servers_trouble_may_pass_and_a_refusal_does_not(hub, url, status, retryable):
    hub.fail_with = status
    with pytest.raises(PortError) as raised:
        HfHubClient(endpoint=url, token="sesame").info("me/mine")
    assert raised.value.retryable is retryable
    assert (raised.value.port, raised.value.adapter) == ("hub_client", "hf")
    assert raised.value.__cause__ is not None


def test_an_unreachable_hub_may_come_back():
    with socket.socket() as taken:  # bound, and never listening: nothing answers there
        taken.bind(("127.0.0.1", 0))
        client = HfHubClient(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(PortError) as raised:
            client.info("me/mine")
    assert raised.value.retryable


def test_an_error_is_one_line_that_says_what_was_tried(url):
    with pytest.raises(PortError, match="looking up me/mine failed") as raised:
        HfHubClient(endpoint=url, token="sesame").info("me/mine")
    assert "\n" not in str(raised.value)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"crucible-kitchen\[hub\]"):
        HfHubClient().info("me/mine")


def test_info_says_what_the_hub_says(url, repo):
    info = HfHubClient(endpoint=url, token="sesame").info("me/mine")
    assert (info.repo_id, info.revision, info.private, info.tags) == ("me/mine", repo, False, ("lora",))


def test_a_cached_revision_is_not_fetched_again(hub, url, repo, tmp_path):
    client = HfHubClient(endpoint=url, token="sesame", cache_dir=tmp_path)
    client.download("me/mine", "config.json", revision=repo)
    before = len(hub.requests)
    client.download("me/mine", "config.json", revision=repo)
    assert hub.requests[before:] == []
