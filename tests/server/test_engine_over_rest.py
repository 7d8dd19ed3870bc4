"""Do the routes beside the Tinker protocol tell of the engine's own weights what the protocol tells of them?"""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tinker
from safetensors.numpy import load_file
from tinker import types

from crucible.server.openai_growing import Growing
from serving import KEY, TINY_MODEL, Serving, leave

PROMPT = [72, 101, 108, 108, 111]


@pytest.fixture(scope="module")
def trained(torch_server: Serving) -> Iterator[tinker.TrainingClient]:
    """A model that took a few large steps."""
    service = tinker.ServiceClient(base_url=torch_server.url, api_key=KEY)
    client = service.create_lora_training_client(TINY_MODEL, rank=4, seed=5).result()
    row = types.Datum(
        model_input=types.ModelInput.from_ints(PROMPT[:-1]),
        loss_fn_inputs={"target_tokens": types.TensorData(data=PROMPT[1:], dtype="int64", shape=[4])},
    )
    for _ in range(3):
        client.forward_backward([row], "cross_entropy").result()
        client.optim_step(types.AdamParams(learning_rate=5e-2)).result()
    yield client
    leave(service)


@pytest.fixture
def rest(torch_server: Serving) -> tinker.RestClient:
    return tinker.RestClient(base_url=torch_server.url, api_key=KEY)


@pytest.fixture
def openai(torch_server: Serving) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=torch_server.url + "/v1", headers=headers, timeout=60, trust_env=False) as client:
        yield client


def test_external_weights_are_a_peft_adapter_behind_urls(
    trained: tinker.TrainingClient, rest: tinker.RestClient, tmp_path: Path, torch_server: Serving
) -> None:
    path = trained.save_weights_external("export").result().path
    told = rest.get_external_weights_urls(path).result()
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= set(told.urls)
    for name, url in told.urls.items():
        urllib.request.urlretrieve(url, tmp_path / name)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
    exported = load_file(tmp_path / "adapter_model.safetensors")
    state = trained.save_state("beside").result().path
    record = torch_server.served.store.checkpoint(*state.removeprefix("tinker://").split("/"), owner="local")
    assert record is not None
    saved = load_file(torch_server.served.vault.files(record)["adapter.safetensors"])
    assert set(exported) == set(saved)
    assert all((exported[name] == saved[name]).all() for name in saved)


def test_external_weights_are_listed_by_their_kind_and_deleted_like_others(
    trained: tinker.TrainingClient, rest: tinker.RestClient
) -> None:
    path = trained.save_weights_external("gone", ttl_seconds=3600).result().path
    (listed,) = [one for one in rest.list_user_checkpoints().result().checkpoints if one.tinker_path == path]
    assert (listed.checkpoint_type, listed.checkpoint_id) == ("external", "external_weights/gone")
    assert listed.expires_at is not None
    rest.delete_checkpoint_from_tinker_path(path).result()
    with pytest.raises(tinker.NotFoundError):
        rest.get_external_weights_urls(path).result()


def test_encryption_is_refused_by_name(trained: tinker.TrainingClient) -> None:
    with pytest.raises(tinker.RequestFailedError, match="age_encryption_recipients"):
        trained.save_weights_external("secret", age_encryption_recipients=["age1x"]).result()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_completion_is_what_the_sdk_draws_of_the_same_weights_prompt_and_seed(
    trained: tinker.TrainingClient, openai: httpx.Client, torch_server: Serving, temperature: float
) -> None:
    name = f"policy{temperature}"
    path = trained.save_weights_for_sampler(name).result().path
    service = tinker.ServiceClient(base_url=torch_server.url, api_key=KEY)
    params = types.SamplingParams(max_tokens=12, seed=7, temperature=temperature)
    sampler = service.create_sampling_client(model_path=path).result()
    drawn = sampler.sample(types.ModelInput.from_ints(PROMPT), num_samples=2, sampling_params=params).result()
    asked = {"model": path, "prompt": PROMPT, "n": 2, "seed": 7, "temperature": temperature, "max_tokens": 12}
    answer = openai.post("/completions", json=asked | {"logprobs": 3})
    assert answer.status_code == 200, answer.text
    told = answer.json()["choices"]
    for sequence, choice in zip(drawn.sequences, told, strict=True):
        assert choice["logprobs"]["token_logprobs"] == pytest.approx(list(sequence.logprobs or ()), abs=1e-6)
        assert all(len(top) >= 1 for top in choice["logprobs"]["top_logprobs"])
    leave(service)


def test_an_echo_scores_the_prompt_as_the_sdk_does(
    trained: tinker.TrainingClient, openai: httpx.Client, torch_server: Serving
) -> None:
    path = trained.save_weights_for_sampler("scored").result().path
    service = tinker.ServiceClient(base_url=torch_server.url, api_key=KEY)
    sampler = service.create_sampling_client(model_path=path).result()
    logprobs = sampler.compute_logprobs(types.ModelInput.from_ints(PROMPT))
    asked = {"model": path, "prompt": PROMPT, "echo": True, "logprobs": 1, "max_tokens": 0}
    told = openai.post("/completions", json=asked).json()["choices"][0]["logprobs"]
    assert told["token_logprobs"][0] is None
    assert told["token_logprobs"][1:] == pytest.approx(logprobs.result()[1:], abs=1e-6)
    leave(service)


def test_the_likeliest_tokens_are_told_with_each_token_of_a_chat(openai: httpx.Client) -> None:
    asked = {"model": TINY_MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    answer = openai.post("/chat/completions", json=asked | {"logprobs": True, "top_logprobs": 3, "temperature": 0})
    for entry in answer.json()["choices"][0]["logprobs"]["content"]:
        tops = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(tops) == 3
        assert tops == sorted(tops, reverse=True)
        assert entry["logprob"] == pytest.approx(tops[0], abs=1e-6)


@pytest.mark.parametrize("chat", [True, False])
def test_a_stream_tells_of_text_while_it_is_drawn(openai: httpx.Client, chat: bool) -> None:
    asked: dict[str, Any] = {"model": TINY_MODEL, "n": 2, "seed": 1, "max_tokens": 300, "stop": ["no such text"]}
    asked |= {"messages": [{"role": "user", "content": "hi"}]} if chat else {"prompt": PROMPT}
    path = "/chat/completions" if chat else "/completions"
    whole = [
        one["message"]["content"] if chat else one["text"] for one in openai.post(path, json=asked).json()["choices"]
    ]
    told: list[list[str]] = [[], []]
    with openai.stream("POST", path, json=asked | {"stream": True}) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                (choice,) = json.loads(line.removeprefix("data: "))["choices"]
                text = choice["delta"].get("content") if chat else choice["text"]
                told[choice["index"]] += [text] if text else []
    assert ["".join(texts) for texts in told] == whole
    assert min(map(len, told)) > 2


def test_a_stream_that_is_left_draws_no_further(
    openai: httpx.Client, torch_server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, take = [], Growing._take
    monkeypatch.setattr(Growing, "_take", lambda *given: (drawn.append(given), take(*given)))
    asked = {"model": TINY_MODEL, "prompt": PROMPT, "n": 4, "seed": 1, "stop": ["no such text"], "stream": True}
    with openai.stream("POST", "/completions", json=asked | {"max_tokens": 500}) as response:
        told = next(json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {"))
    assert told["choices"][0]["text"]
    while torch_server.served.sampling.statistics()["sequences_decoding"]:
        time.sleep(0.01)
    whole = openai.post("/completions", json=asked | {"max_tokens": 500, "stream": False}).json()
    assert 0 < len(drawn) < whole["usage"]["completion_tokens"] / 2


def test_a_run_trained_further_is_sampled_by_its_id_from_its_latest_weights(
    trained: tinker.TrainingClient, openai: httpx.Client
) -> None:
    run = trained.model_id
    asked = {"model": run, "prompt": PROMPT, "echo": True, "logprobs": 0, "max_tokens": 0}

    def scores() -> list[float]:
        return openai.post("/completions", json=asked).json()["choices"][0]["logprobs"]["token_logprobs"][1:]

    trained.save_weights_for_sampler("one").result()
    before = scores()
    row = types.Datum(
        model_input=types.ModelInput.from_ints(PROMPT[:-1]),
        loss_fn_inputs={"target_tokens": types.TensorData(data=PROMPT[1:], dtype="int64", shape=[4])},
    )
    trained.forward_backward([row], "cross_entropy").result()
    trained.optim_step(types.AdamParams(learning_rate=5e-2)).result()
    assert scores() == before
    trained.save_weights_for_sampler("two").result()
    assert sum(scores()) > sum(before)
