"""What the OpenAI adapter sends, what it makes of failures, and that its key stays secret. Over real HTTP."""

import asyncio
import json
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from chat_server import ChatServer, serving

from crucible.adapters.llm import OpenAIClient
from crucible.errors import ManifestError, PortError
from crucible.ports.llm_client import ChatParams
from crucible.runtime.facade import build_ports

HELLO = [{"role": "user", "content": "hello"}]
KEY = "sk-very-secret"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as chat:
        yield chat


def failing(client: OpenAIClient) -> PortError:
    with pytest.raises(PortError) as raised:
        client.chat(HELLO).result(30)
    return raised.value


def test_the_request_is_the_protocols_and_leaves_out_what_was_not_asked(server: ChatServer) -> None:
    client = OpenAIClient(model="m", base_url=server.url + "/", api_key=KEY)
    client.chat(HELLO).result(30)
    client.chat(HELLO, params=ChatParams(max_tokens=3, temperature=0.0, top_p=0.5, seed=7, stop=["x"])).result(30)
    (headers, plain), (_, full) = server.requests
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert plain == {"path": "/v1/chat/completions", "model": "m", "messages": HELLO}
    assert full == {**plain, "max_tokens": 3, "temperature": 0.0, "top_p": 0.5, "seed": 7, "stop": ["x"]}


def test_options_beat_the_environment_which_beats_the_defaults(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "api.openai.com" in repr(OpenAIClient(model="m"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    for options, key in (({}, "from-the-environment"), ({"api_key": KEY}, KEY)):
        OpenAIClient(model="m", **options).chat(HELLO).result(30)
        assert server.requests[-1][0]["Authorization"] == f"Bearer {key}"


def test_the_key_is_in_no_repr_and_in_no_error_even_if_the_server_repeats_it(server: ChatServer) -> None:
    server.token = "another"
    client = OpenAIClient(model="m", base_url=server.url, api_key=KEY)
    error = failing(client)
    told = "".join(traceback.format_exception(error))
    assert "[api_key] is not a key" in error.message and not error.retryable
    for text in (repr(client), repr(vars(client)), told, repr(error.details)):
        assert KEY not in text


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (401, False), (404, False), (429, True), (503, True)])
def test_a_status_is_an_error_that_says_whether_to_try_again(server: ChatServer, status: int, retryable: bool) -> None:
    server.answers = [(status, {"Retry-After": "2"}, b'{"error": {"message": "because"}}')]
    error = failing(OpenAIClient(model="m", base_url=server.url))
    assert error.retryable == retryable and "because" in error.message
    assert error.details == {"status": status, "retry_after": "2"}


@pytest.mark.parametrize("body", [b"<html>", b'{"choices": []}', b'{"choices": [{"message": {"content": 3}}]}'])
def test_an_answer_of_another_kind_is_an_error(server: ChatServer, body: bytes) -> None:
    server.answers = [(200, {}, body)]
    assert not failing(OpenAIClient(model="m", base_url=server.url)).retryable


def test_no_redirect_is_followed(server: ChatServer) -> None:
    server.answers = [(302, {"Location": server.url}, b"")]
    assert failing(OpenAIClient(model="m", base_url=server.url, api_key=KEY)).details["status"] == 302
    assert len(server.requests) == 1


def test_silence_and_nobody_there_are_worth_another_try(server: ChatServer) -> None:
    server.pause = 0.5
    assert failing(OpenAIClient(model="m", base_url=server.url, timeout=0.1)).retryable
    assert failing(OpenAIClient(model="m", base_url="http://127.0.0.1:9")).retryable


async def test_a_stream_that_breaks_off_is_worth_another_try(server: ChatServer) -> None:
    server.cut = True
    said = ""
    with pytest.raises(PortError, match="broke off") as raised:
        async for chunk in OpenAIClient(model="m", base_url=server.url).stream_chat(HELLO):
            said += chunk.text
    assert raised.value.retryable and said


async def test_an_error_inside_a_stream_is_an_error(server: ChatServer) -> None:
    server.answers = [(200, {}, b'data: {"error": {"message": "overloaded"}}\n\n')]
    with pytest.raises(PortError, match="overloaded"):
        await anext(OpenAIClient(model="m", base_url=server.url).stream_chat(HELLO))


def served(content: str | None, **more: Any) -> tuple[int, dict[str, str], bytes]:
    message = {"content": content, "refusal": more.pop("refusal", None)}
    return 200, {}, json.dumps({"choices": [{"message": message, **more}]}).encode()


@pytest.mark.parametrize("content", ["not json", '{"a": "text"}', "[1]"])
def test_an_answer_that_does_not_fit_its_schema_is_worth_another_try(server: ChatServer, content: str) -> None:
    server.answers = [served(content, finish_reason="stop")]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with pytest.raises(PortError, match="the answer") as raised:
        OpenAIClient(model="m", base_url=server.url).chat(HELLO, schema=schema).result(30)
    assert raised.value.retryable and raised.value.details["content"] == content


def test_a_refusal_is_an_answer_and_what_the_server_does_not_say_is_none(server: ChatServer) -> None:
    server.answers = [served(None, refusal="I will not"), served("cut", finish_reason="content_filter")]
    client = OpenAIClient(model="m", base_url=server.url)
    refused, filtered = (client.chat(HELLO, schema={"type": "object"}).result(30) for _ in range(2))
    assert (refused.content, refused.stopped, refused.structured) == ("I will not", "refused", None)
    assert (filtered.stopped, filtered.usage, filtered.cost, filtered.model) == ("refused", None, None, "m")


def test_at_most_so_many_calls_are_in_flight(server: ChatServer) -> None:
    server.pause = 0.05
    client = OpenAIClient(model="m", base_url=server.url, max_concurrency=2)
    for answer in [client.chat(HELLO) for _ in range(6)]:
        answer.result(30)
    assert server.most == 2


async def test_a_caller_that_gives_up_does_not_wait_for_the_server(server: ChatServer) -> None:
    server.pause = 0.5
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(OpenAIClient(model="m", base_url=server.url).stream_chat(HELLO)), 0.05)
    assert time.monotonic() - begun < 0.4


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"model": ""}, "openai.model"),
        ({"base_url": "file:///etc/passwd"}, "http://"),
        ({"base_url": "http://[bad"}, "is no address"),
        ({"base_url": "https://me:word@host/v1"}, "a password"),
        ({"api_key": "with\nnewline"}, "openai.api_key"),
        ({"timeout": 0}, "openai.timeout"),
        ({"timeout": "soon"}, "openai.timeout"),
        ({"max_concurrency": 0}, "openai.max_concurrency"),
    ],
)
def test_a_wrong_option_is_one_sentence_that_shows_no_secret(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ManifestError) as raised:
        build_ports("test", {"llm_client": "openai"}, options={"openai": {"model": "m", **options}}).port("llm_client")
    assert wanted in str(raised.value) and "word@" not in str(raised.value) and "newline" not in str(raised.value)
