"""Do OpenAI's routes answer as that API's clients expect, and refuse by name what they do not do?"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from calls import Caller
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from crucible.adapters.tokenizer import HfTokenizer
from crucible.adapters.tokenizer.files import TokenizerFiles
from crucible.ports.sampling_client import SampledSequence
from crucible.server.limits import Limits
from crucible.server.openai_chat import choice_json
from crucible.server.openai_models import Voice
from crucible.server.openai_requests import ChatRequest
from crucible.train.renderers import get_renderer
from serving import FAKE_MODEL, KEY, Serving, fake_served, running

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def openai(fake_server: Serving) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=fake_server.url + "/v1", headers=headers, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def trained(http: httpx.Client) -> Caller:
    """A run that took a step and saved its weights for sampling."""
    caller = Caller.new(http)
    caller.scored(caller.forward_backward(next(caller.numbers)))
    caller.done(caller.call("/optim_step", adam_params={"learning_rate": 0.1}))
    asked = {"model_id": caller.model_id, "seq_id": next(caller.numbers), "path": "policy"}
    caller.done(caller.post("/save_weights_for_sampler", asked))
    return caller


def _chat(openai: httpx.Client, **fields: Any) -> httpx.Response:
    asked = {"model": FAKE_MODEL, "messages": ASK, "max_tokens": 8, "seed": 3}
    return openai.post("/chat/completions", json=asked | fields)


def _complete(openai: httpx.Client, **fields: Any) -> httpx.Response:
    asked = {"model": FAKE_MODEL, "prompt": "hello", "max_tokens": 8, "seed": 3}
    return openai.post("/completions", json=asked | fields)


def _events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n\n") if line and not line.startswith(":")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_models_are_the_base_models_and_the_callers_sampler_weights(openai: httpx.Client, trained: Caller) -> None:
    listed = openai.get("/models").json()
    path = f"tinker://{trained.model_id}/sampler_weights/policy"
    assert [model["id"] for model in listed["data"]] == [FAKE_MODEL, path]
    for name in (FAKE_MODEL, path, trained.model_id):
        assert openai.get(f"/models/{name}").json()["id"] == name
    assert openai.get("/models/nothing").json()["error"]["code"] == "model_not_found"


def test_the_vendors_prefix_leads_to_the_same_routes(fake_server: Serving) -> None:
    url, headers = fake_server.url + "/oai/api/v1/chat/completions", {"X-API-Key": KEY}
    asked = {"model": FAKE_MODEL, "messages": ASK, "max_tokens": 2}
    assert httpx.post(url, json=asked, headers=headers, trust_env=False).json()["object"] == "chat.completion"


def test_a_chat_completion_has_the_apis_shape(openai: httpx.Client) -> None:
    whole = _chat(openai, n=2).json()
    assert whole["object"] == "chat.completion"
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    for choice in whole["choices"]:
        assert choice["message"]["role"] == "assistant"
        assert isinstance(choice["message"]["content"], str)
        assert choice["finish_reason"] in ("stop", "length")
    usage = whole["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_seed_repeats_a_completion_and_another_does_not(openai: httpx.Client) -> None:
    first, again, other = (_chat(openai, seed=seed, max_tokens=20).json()["choices"] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("name", ["path", "run"])
def test_saved_weights_are_sampled_by_their_path_and_by_their_run(
    openai: httpx.Client, trained: Caller, name: str
) -> None:
    path = f"tinker://{trained.model_id}/sampler_weights/policy"
    answer = _chat(openai, model=path if name == "path" else trained.model_id, max_tokens=20).json()
    assert answer["system_fingerprint"].startswith("fp_")
    assert answer["choices"] != _chat(openai, max_tokens=20).json()["choices"]


def test_weights_that_were_deleted_are_no_model_any_more(openai: httpx.Client, trained: Caller) -> None:
    path = f"tinker://{trained.model_id}/sampler_weights/policy"
    assert _chat(openai, model=path).status_code == 200
    below = f"/training_runs/{trained.model_id}/checkpoints/sampler_weights/policy"
    assert trained.http.delete(below).status_code == 204
    assert _chat(openai, model=path).status_code == 404


def test_a_streamed_chat_is_the_whole_one_in_chunks(openai: httpx.Client) -> None:
    whole = _chat(openai, n=2).json()
    response = _chat(openai, n=2, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = _events(response)
    texts, ends = ["", ""], ["", ""]
    for event in events[:-1]:
        assert (event["object"], event["usage"]) == ("chat.completion.chunk", None)
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content") or ""
        ends[choice["index"]] = choice["finish_reason"] or ends[choice["index"]]
    assert texts == [choice["message"]["content"] for choice in whole["choices"]]
    assert ends == [choice["finish_reason"] for choice in whole["choices"]]
    assert (events[-1]["choices"], events[-1]["usage"]) == ([], whole["usage"])


def test_a_streamed_completion_is_the_whole_one(openai: httpx.Client) -> None:
    asked: dict[str, Any] = {"prompt": ["hello", "good day"], "n": 2, "max_tokens": 20}
    texts, ends = [""] * 4, [None] * 4
    for event in _events(_complete(openai, stream=True, **asked)):
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["text"]
        ends[choice["index"]] = choice["finish_reason"]
    whole = _complete(openai, **asked).json()["choices"]
    assert (texts, ends) == ([one["text"] for one in whole], [one["finish_reason"] for one in whole])


@pytest.mark.parametrize("more", [{"logprobs": 2}, {"echo": True}, {"max_tokens": 0, "echo": True}])
def test_what_belongs_to_whole_completions_is_streamed_at_the_end(openai: httpx.Client, more: dict[str, Any]) -> None:
    events = _events(_complete(openai, stream=True, **more))
    assert [event["choices"] for event in events] == [[one] for one in _complete(openai, **more).json()["choices"]]


def test_an_error_after_the_stream_began_is_an_event(openai: httpx.Client) -> None:
    (event,) = _events(_chat(openai, stream=True, max_tokens=10_000_000))
    assert event["error"]["type"] == "invalid_request_error"


def test_a_stop_string_ends_the_text_and_is_not_in_it(openai: httpx.Client) -> None:
    drawn = ((seed, _complete(openai, max_tokens=30, seed=seed).json()["choices"][0]["text"]) for seed in range(50))
    seed, text = next((seed, text) for seed, text in drawn if len(text) > 6)
    stop = text[4:6]
    for stops in (stop, ["\0never", stop]):
        choice = _complete(openai, max_tokens=30, stop=stops, seed=seed).json()["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (text[: text.index(stop)], "stop")


def test_a_chats_stop_string_ends_it_beside_its_own_end_of_turn(openai: httpx.Client) -> None:
    drawn = ((seed, _chat(openai, max_tokens=30, seed=seed).json()["choices"][0]) for seed in range(50))
    seed, text = next((seed, one["message"]["content"]) for seed, one in drawn if len(one["message"]["content"]) > 6)
    stop = text[2:4]
    choice = _chat(openai, max_tokens=30, stop=stop, seed=seed).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text[: text.index(stop)], "stop")


def test_prompts_are_texts_or_token_ids_one_or_several(openai: httpx.Client) -> None:
    ids = list(b"hello")
    one = _complete(openai).json()["choices"]
    assert _complete(openai, prompt=ids).json()["choices"] == one
    several = _complete(openai, prompt=["hello", "other"]).json()["choices"]
    assert [choice["index"] for choice in several] == [0, 1]
    assert _complete(openai, prompt=[ids, list(b"other")]).json()["choices"] == several


def test_an_echo_scores_the_prompt_and_draws_nothing_if_nothing_is_asked_for(openai: httpx.Client) -> None:
    whole = _complete(openai, echo=True, logprobs=0, max_tokens=0).json()
    (choice,) = whole["choices"]
    assert (choice["text"], choice["logprobs"]["tokens"]) == ("hello", list("hello"))
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert all(logprob <= 0 for logprob in choice["logprobs"]["token_logprobs"][1:])
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]
    assert whole["usage"]["completion_tokens"] == 0


def test_logprobs_are_of_every_token_that_was_drawn(openai: httpx.Client) -> None:
    whole = _chat(openai, logprobs=True).json()
    content = whole["choices"][0]["logprobs"]["content"]
    assert len(content) == whole["usage"]["completion_tokens"]
    assert all(entry["logprob"] <= 0 and entry["bytes"] == list(entry["token"].encode()) for entry in content)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("logit_bias", {"5": 1}),
        ("frequency_penalty", 0.5),
        ("presence_penalty", 1),
        ("response_format", {"type": "json_object"}),
        ("tool_choice", "required"),
        ("functions", [{"name": "f"}]),
        ("best_of", 3),
        ("reasoning_effort", "high"),
        ("no_such_field", 1),
    ],
)
def test_what_is_not_done_is_refused_by_name(openai: httpx.Client, field: str, value: object) -> None:
    answer = _chat(openai, **{field: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["type"]) == (400, field, "invalid_request_error")
    assert field in error["message"]


def test_what_asks_for_nothing_is_taken(openai: httpx.Client) -> None:
    neutral = {"logit_bias": {}, "frequency_penalty": 0.0, "response_format": {"type": "text"}, "user": "me"}
    assert _chat(openai, **neutral, tool_choice="none", best_of=1, metadata={"a": "b"}, stop=None).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": "hello"},
        {"temperature": 3},
        {"temperature": -1},
        {"top_p": 0},
        {"n": 0},
        {"n": 10**6},
        {"max_tokens": 10**9},
        {"seed": 10**30},
        {"stop": [""]},
        {"stop": ["x"] * 99},
        {"top_logprobs": 50, "logprobs": True},
        {"model": 5},
        {"tools": [{"type": "function"}]},
    ],
)
def test_a_malformed_chat_is_refused_with_a_sentence(openai: httpx.Client, fields: dict[str, Any]) -> None:
    answer = _chat(openai, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("prompt", ["", [], [""], [[]], [-1], [10**9], [1.5], [["x"]], 5, None])
def test_a_malformed_prompt_is_refused_with_a_sentence(openai: httpx.Client, prompt: object) -> None:
    answer = _complete(openai, prompt=prompt)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": "\xff"}', b"[" * 10_000])
def test_a_body_that_is_no_request_is_refused(openai: httpx.Client, body: bytes) -> None:
    for path in ("/chat/completions", "/completions"):
        answer = openai.post(path, content=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_client_that_leaves_stops_nobody_else(tmp_path: Path) -> None:
    asked = {"model": FAKE_MODEL, "messages": ASK, "max_tokens": 4}
    with (
        fake_served(tmp_path, latency=0.3) as served,
        running(served) as serving,
        httpx.Client(base_url=serving.url + "/v1", headers={"X-API-Key": KEY}, trust_env=False) as openai,
    ):
        assert openai.post("/chat/completions", json=asked).status_code == 200
        for stream in (False, True):
            with pytest.raises(httpx.TimeoutException):
                openai.post("/chat/completions", json=asked | {"stream": stream}, timeout=0.1)
        assert openai.post("/chat/completions", json=asked).status_code == 200


def test_more_than_the_server_lets_wait_is_put_off(tmp_path: Path) -> None:
    asked = {"model": FAKE_MODEL, "messages": ASK, "max_tokens": 4}
    with (
        fake_served(tmp_path, latency=0.5, limits=Limits(max_waiting_samples=2)) as served,
        running(served) as serving,
        httpx.Client(base_url=serving.url + "/v1", headers={"X-API-Key": KEY}, trust_env=False, timeout=30) as openai,
        ThreadPoolExecutor(8) as clients,
    ):
        answers = list(clients.map(lambda _: openai.post("/chat/completions", json=asked), range(8)))
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)
        assert serving.live.waiting_samples == 0
        assert openai.post("/chat/completions", json=asked).status_code == 200


def _qwen3() -> Voice:
    """Qwen3's convention over a tokenizer of bytes that has its control tokens."""
    alphabet = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    fast = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|im_end|>", "<|im_start|>", "<|endoftext|>"])
    tags = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    fast.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    files = TokenizerFiles(
        tokenizer_json=fast.to_str(),
        named_tokens={"eos_token": "<|im_end|>"},
        added_tokens=(),
        templates={},
        eos_ids=frozenset(),
    )
    tokenizer = HfTokenizer(files, name="made")
    return Voice(tokenizer=tokenizer, renderer=get_renderer("qwen3", tokenizer))


def test_reasoning_and_tool_calls_are_told_as_the_api_has_them() -> None:
    voice = _qwen3()
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    tokens = voice.tokenizer.encode(f"<think>\nWhere?\n</think>\n\nLet me see.\n{call}<|im_end|>").ids
    sequence = SampledSequence(tokens=tokens, logprobs=(-1.0,) * len(tokens), stop_reason="stop")
    choice = choice_json(0, sequence, voice, ChatRequest(model="m", messages=[]))
    message = choice["message"]
    assert (message["reasoning_content"], message["content"]) == ("Where?", "Let me see.")
    (told,) = message["tool_calls"]
    assert (told["type"], told["function"]["name"]) == ("function", "weather")
    assert json.loads(told["function"]["arguments"]) == {"city": "Paris"}
    assert choice["finish_reason"] == "tool_calls"


def test_a_completion_without_an_end_says_that_it_ran_out() -> None:
    voice = _qwen3()
    tokens = voice.tokenizer.encode("<think>\n\n</think>\n\nLet me").ids
    sequence = SampledSequence(tokens=tokens, logprobs=(-1.0,) * len(tokens), stop_reason="length")
    choice = choice_json(0, sequence, voice, ChatRequest(model="m", messages=[]))
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Let me", "length")
