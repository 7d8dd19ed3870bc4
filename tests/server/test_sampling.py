"""Are completions what was asked for, once per request, and from the weights that they should be from?"""

import re
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
import tinker
from calls import Caller, until
from tinker import types

from crucible.server.client_routes import ClientConfig
from crucible.server.limits import Limits
from serving import FAKE_MODEL, Serving, fake_served, raw, running, sdk

PROMPT = types.ModelInput.from_ints([1, 2, 3])
GREEDY = types.SamplingParams(max_tokens=6, temperature=0.0)


@pytest.fixture
def caller(http: httpx.Client) -> Caller:
    return Caller.new(http)


@pytest.fixture
def sampler(caller: Caller) -> str:
    return caller.sampler()


def first_logprob(client: tinker.SamplingClient) -> float:
    logprobs = client.compute_logprobs(PROMPT).result()
    assert logprobs[0] is None
    assert logprobs[1] is not None
    return logprobs[1]


@pytest.mark.parametrize("one_question", [True, False], ids=["one question for all", "one question each"])
def test_the_sdk_samples_a_group(tmp_path: Path, one_question: bool) -> None:
    config = ClientConfig(sample_use_retrieve_futures=one_question)
    with fake_served(tmp_path) as served, running(served, config=config) as server, sdk(server.url) as service:
        client = service.create_sampling_client(base_model=FAKE_MODEL).result()
        params = types.SamplingParams(max_tokens=5, seed=3)
        futures = [client.sample(PROMPT, 4, params, include_prompt_logprobs=True) for _ in range(20)]
        responses = [future.result() for future in futures]
        ids = [sequence.sequence_id for response in responses for sequence in response.sequences]
        assert len(set(ids)) == 80
        assert (
            len({tuple(sequence.tokens for sequence in map(_tokens, response.sequences)) for response in responses})
            == 1
        )
        assert responses[0].prompt_logprobs is not None
        assert responses[0].prompt_logprobs[0] is None


class _Tokens:
    def __init__(self, tokens: tuple[int, ...]) -> None:
        self.tokens = tokens


def _tokens(sequence: types.SampledSequence) -> _Tokens:
    return _Tokens(tuple(sequence.tokens))


def test_a_replay_has_the_first_ones_id_and_sequences(caller: Caller, sampler: str) -> None:
    first, again = caller.sample(sampler, 0, num_samples=3), caller.sample(sampler, 0, num_samples=3)
    assert first == again
    assert len(set(first["sample_sequence_ids"])) == 3
    assert len(caller.completed(first).sequences) == 3
    other = caller.sample(sampler, 0, num_samples=2)
    assert (len(other["sample_sequence_ids"]), caller.failure(other)[1]) == (2, "user")


def test_no_stops_and_the_default_stops_are_two_things(caller: Caller, sampler: str) -> None:
    params = {"max_tokens": 400, "seed": 5}
    default = caller.completed(caller.sample(sampler, 0, sampling_params=params))
    none = caller.completed(caller.sample(sampler, 1, sampling_params={**params, "stop": []}))
    text = caller.completed(caller.sample(sampler, 2, sampling_params={**params, "stop": " "}))
    lengths = [len(np.frombuffer(each.sequences[0].tokens, np.int32)) for each in (default, none, text)]
    assert lengths[1] == 400 > lengths[0] > lengths[2]
    assert [each.sequences[0].stop_reason for each in (default, none, text)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": 100_000}, "num_samples"),
        ({"sampling_params": {"max_tokens": 0}}, "max_tokens"),
        ({"sampling_params": {"max_tokens": 1, "temperature": -1}}, "temperature"),
        ({"sampling_params": {"max_tokens": 1, "top_p": 0}}, "top_p"),
        ({"sampling_params": {"max_tokens": 1, "top_k": 0}}, "top_k"),
        ({"sampling_params": {"max_tokens": 1, "seed": -3}}, "seed"),
        ({"sampling_params": {"max_tokens": 1, "stop": [1, "a"]}}, "stop"),
        ({"sampling_params": {"max_tokens": 1, "stop": [""]}}, "stop"),
        ({"sampling_params": {}}, "max_tokens is missing"),
        ({"prompt": {"chunks": []}}, "prompt"),
        ({"prompt": {"chunks": [{"type": "encoded_text", "tokens": [9999]}]}}, "9999 is no token id"),
        ({"prompt": {"chunks": [{"type": "dmel", "dmel": "AAAA"}]}}, "dmel"),
        ({"prompt": {"chunks": [{"type": "image", "format": "png", "data": "AAAA"}]}}, "no images"),
        ({"prompt_logprobs_last_n": 1}, "only with prompt_logprobs"),
        ({"prompt_logprobs_last_n": 3, "prompt_logprobs": True}, "from 1 to 2"),
        ({"topk_prompt_logprobs": -1}, "topk_prompt_logprobs"),
        ({"topk_sample_logprobs": 1 << 20}, "topk_sample_logprobs"),
        ({"prompt_alt_tokens_k": -1}, "prompt_alt_tokens_k"),
        ({"record_stability_info": True}, "record_stability_info"),
        ({"target_prompt_logprobs": {"data": [1], "dtype": "int64", "shape": [1, 1]}}, r"\[2, K\]"),
        ({"target_prompt_logprobs": {"data": [1.0], "dtype": "float32", "shape": [2, 1]}}, "."),
        (
            {
                "target_prompt_logprobs": {
                    "data": [1],
                    "dtype": "int64",
                    "shape": [2, 1 << 50],
                    "sparse_crow_indices": [0, 1, 1],
                    "sparse_col_indices": [0],
                }
            },
            "take more than",
        ),
    ],
)
def test_a_field_that_is_wrong_is_named(caller: Caller, sampler: str, fields: dict[str, object], what: str) -> None:
    asked = {
        "sampling_session_id": sampler,
        "seq_id": 0,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
        "sampling_params": {"max_tokens": 4},
        **fields,
    }
    response = caller.http.post("/asample", json=asked)
    if response.status_code == 400:
        message = response.json()["detail"]
    else:
        message, category = caller.failure(response.json())
        assert category == "user"
    assert re.search(what, message), message
    assert caller.completed(caller.sample(sampler, 1)).sequences


def test_a_snapshot_is_not_moved_by_later_training(fake_service: tinker.ServiceClient) -> None:
    client = fake_service.create_lora_training_client(base_model=FAKE_MODEL, rank=8).result()
    datum = types.Datum(model_input=PROMPT, loss_fn_inputs={"target_tokens": [2, 3, 4]})
    unnamed = client.save_weights_and_get_sampling_client().result()
    named = client.create_sampling_client(client.save_weights_for_sampler("a").result().path).result()
    before = first_logprob(unnamed)
    client.forward_backward([datum], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=0.1)).result()
    assert first_logprob(unnamed) == first_logprob(named) == before
    assert first_logprob(client.save_weights_and_get_sampling_client().result()) > before


def test_an_inflight_sampler_has_the_weights_published_last(fake_service: tinker.ServiceClient) -> None:
    client = fake_service.create_lora_training_client(base_model=FAKE_MODEL, rank=8).result()
    datum = types.Datum(model_input=PROMPT, loss_fn_inputs={"target_tokens": [2, 3, 4]})
    first = client.save_weights_and_get_sampling_client(kind="inflight").result()
    before = first_logprob(first)
    client.forward_backward([datum], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=0.1)).result()
    assert first_logprob(first) == before
    second = client.save_weights_and_get_sampling_client(kind="inflight").result()
    assert first_logprob(first) == first_logprob(second) > before


def test_unnamed_snapshots_are_gone_when_their_session_is(fake_server: Serving, tmp_path: Path) -> None:
    folder = tmp_path / "server" / "checkpoints" / "sampler_weights"
    with sdk(fake_server.url) as service:
        client = service.create_lora_training_client(base_model=FAKE_MODEL, rank=8).result()
        client.save_weights_for_sampler("kept").result()
        for kind in ("snapshot", "inflight", "inflight"):
            client.save_weights_and_get_sampling_client(kind=kind).result()
        assert len(list(folder.iterdir())) >= 3
    until(lambda: len(list(folder.iterdir())) == 1)


def test_a_sampler_says_what_it_is_and_counts_its_clients(caller: Caller, sampler: str) -> None:
    told = caller.http.get(f"/samplers/{sampler}").json()
    assert told == {"sampler_id": sampler, "base_model": FAKE_MODEL, "model_path": None}
    join = {"sampling_session_id": sampler}
    assert [caller.post("/join_sampling_session", join)["client_counter"] for _ in range(2)] == [1, 2]


def test_a_sampling_session_asked_for_twice_is_one(caller: Caller, sampler: str) -> None:
    assert caller.sampler() == sampler
    asked = {"session_id": caller.session_id, "sampling_session_seq_id": 0, "model_path": "tinker://a/weights/b"}
    assert caller.http.post("/create_sampling_session", json=asked).status_code == 400


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"base_model": "fake/modle"}, FAKE_MODEL),
        ({"model_path": "tinker://none/sampler_weights/x"}, "no such checkpoint"),
        ({"model_path": "/etc/passwd"}, "no path of a checkpoint"),
        ({}, "base_model or a model_path"),
    ],
)
def test_weights_that_are_not_there_are_refused_at_once(caller: Caller, asked: dict[str, str], what: str) -> None:
    body = {"session_id": caller.session_id, "sampling_session_seq_id": 3, **asked}
    response = caller.http.post("/create_sampling_session", json=body)
    assert (response.status_code, what in response.json()["detail"]) == (400, True), response.text


def test_too_many_completions_at_once_are_asked_to_come_later(tmp_path: Path) -> None:
    limits, gate = Limits(max_waiting_samples=4), threading.Event()
    with fake_served(tmp_path, limits=limits) as served, running(served) as server, raw(server) as http:
        caller = Caller.new(http, model=False)
        sampler = caller.sampler()
        served.sampling._queue.submit(gate.wait)  # the backend is busy
        waiting = caller.sample(sampler, 0, num_samples=4)
        asked = {"sampling_session_id": sampler, "seq_id": 1, "num_samples": 1}
        body = {**asked, "prompt": {"chunks": [{"tokens": [1]}]}, "sampling_params": {"max_tokens": 1}}
        assert http.post("/asample", json=body).status_code == 429
        gate.set()
        assert caller.completed(waiting).sequences
        assert caller.completed(caller.post("/asample", body)).sequences
