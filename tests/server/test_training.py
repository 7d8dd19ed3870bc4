"""Does the official SDK train here: models, steps, checkpoints, and what is refused?"""

import secrets
from pathlib import Path

import httpx
import pytest
import tinker
from calls import Caller
from tinker import types

from crucible.server.client_routes import ClientConfig
from serving import FAKE_MODEL, Serving, fake_served, running, sdk

DATUM = types.Datum(
    model_input=types.ModelInput.from_ints([1, 2, 3]),
    loss_fn_inputs={"target_tokens": [2, 3, 4], "weights": [0.0, 1.0, 1.0]},
)


@pytest.fixture
def client(fake_service: tinker.ServiceClient) -> tinker.TrainingClient:
    return fake_service.create_lora_training_client(base_model=FAKE_MODEL, rank=8).result()


def loss(client: tinker.TrainingClient) -> float:
    return client.forward([DATUM], "cross_entropy").result().metrics["loss:sum"]


def step(client: tinker.TrainingClient, **params: float) -> dict[str, float]:
    client.forward_backward([DATUM], "cross_entropy")
    return client.optim_step(types.AdamParams(**{"learning_rate": 0.1, **params})).result().metrics or {}


def test_a_loss_falls_and_its_outputs_have_the_targets_shape(client: tinker.TrainingClient) -> None:
    before = client.forward_backward([DATUM, DATUM], "cross_entropy").result()
    client.optim_step(types.AdamParams(learning_rate=0.1)).result()
    assert [list(output["logprobs"].shape or ()) for output in before.loss_fn_outputs] == [[3], [3]]
    assert loss(client) < before.metrics["loss:sum"] / 2


def test_a_batch_cut_into_compressed_parts_is_one_batch(tmp_path: Path) -> None:
    config = ClientConfig(fwdbwd_max_chunk_len=2, proto_compress_fwdbwd=True)
    with fake_served(tmp_path) as served, running(served, config=config) as server, sdk(server.url) as service:
        client = service.create_lora_training_client(base_model=FAKE_MODEL, rank=8).result()
        whole = client.forward_backward([DATUM] * 7, "cross_entropy")
        norm = client.optim_step(types.AdamParams()).result().metrics
        assert len(whole.result().loss_fn_outputs) == 7
        assert norm == {"grad_norm": pytest.approx(whole.result().metrics["loss:sum"])}


def test_a_model_says_what_it_is(client: tinker.TrainingClient) -> None:
    info = client.get_info()
    assert (info.model_name, info.lora_rank, info.is_lora) == (FAKE_MODEL, 8, True)
    assert info.model_id.endswith(":train:0")
    assert info.model_data.tokenizer_id is not None


def test_a_model_from_a_saved_state_goes_on_where_it_was(
    client: tinker.TrainingClient, fake_service: tinker.ServiceClient
) -> None:
    step(client)
    path = client.save_state("one", user_metadata={"step": "1"}).result().path
    after = loss(client)
    step(client)
    again = fake_service.create_training_client_from_state_with_optimizer(path).result()
    assert loss(again) == after > loss(client)
    assert again.get_info().lora_rank == 8


def test_a_state_is_loaded_onto_a_model_in_its_turn(client: tinker.TrainingClient) -> None:
    path = client.save_state("zero").result().path
    before = loss(client)
    step(client)
    with pytest.warns(FutureWarning):
        loaded = client.load_state(path)
    assert loss(client) == before
    assert loaded.result().path == path


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "x" * 129])
def test_a_checkpoints_name_is_a_plain_one(client: tinker.TrainingClient, name: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match=r"no name for a checkpoint"):
        client.save_weights_for_sampler(name).result()
    step(client)


def test_a_name_is_taken_until_it_may_be_overwritten(client: tinker.TrainingClient) -> None:
    client.save_state("same").result()
    with pytest.raises(tinker.RequestFailedError, match="of this name exists"):
        client.save_state("same").result()
    step(client)
    assert client.save_state("same", overwrite=True).result().path.endswith("/weights/same")


def test_an_unknown_base_model_is_refused_with_those_there_are(fake_service: tinker.ServiceClient) -> None:
    with pytest.raises(tinker.RequestFailedError, match=FAKE_MODEL):
        fake_service.create_lora_training_client(base_model="fake/modle").result()


def test_what_is_not_supported_is_refused_by_name(
    client: tinker.TrainingClient, fake_service: tinker.ServiceClient
) -> None:
    with pytest.raises(tinker.RequestFailedError, match="dimuon"):
        optimizer = types.DimuonOptimizerConfig()
        fake_service.create_lora_training_client(base_model=FAKE_MODEL, optimizer=optimizer).result()
    with pytest.raises(tinker.RequestFailedError, match="dimuon"):
        client.optim_step(types.DimuonParams(learning_rate=0.1)).result()
    with pytest.raises(tinker.RequestFailedError, match="stable_reinforce"):
        client.forward_backward([DATUM], "stable_reinforce").result()
    with pytest.raises(tinker.RequestFailedError, match="weights_access_token"):
        fake_service.create_training_client_from_state("tinker://a/weights/b", weights_access_token="x").result()
    assert loss(client)


@pytest.mark.parametrize("field", ["learning_rate", "eps", "weight_decay"])
def test_a_step_with_a_setting_out_of_range_is_refused(client: tinker.TrainingClient, field: str) -> None:
    with pytest.raises(tinker.RequestFailedError, match=f"{field} is -1"):
        step(client, **{field: -1.0})
    assert step(client, grad_clip_norm=-1.0)


def test_a_custom_loss_runs_in_the_client(client: tinker.TrainingClient) -> None:
    result = client.forward_backward_custom([DATUM], lambda _, logprobs: (-logprobs[0].sum() * 2, {"mine": 1.0}))
    metrics = result.result().metrics
    assert metrics["mine"] == 1.0
    assert metrics["loss:sum"] == pytest.approx(2 * -sum(client_logprobs(client)), rel=1e-5)


def client_logprobs(client: tinker.TrainingClient) -> list[float]:
    return list(client.forward([DATUM], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data)


def test_a_seed_that_is_not_given_is_drawn_and_remembered(http: httpx.Client, fake_server: Serving) -> None:
    caller = Caller.new(http, model=False)
    seeds = [_seed_of(caller, fake_server, number, {"rank": 4}) for number in range(2)]
    assert seeds[0] != seeds[1]
    given = secrets.randbelow(1000)
    assert _seed_of(caller, fake_server, 2, {"rank": 4, "seed": given}) == given


def _seed_of(caller: Caller, server: Serving, number: int, lora: dict[str, int]) -> int:
    asked = {"session_id": caller.session_id, "model_seq_id": number, "base_model": FAKE_MODEL, "lora_config": lora}
    model_id = caller.done(caller.post("/create_model", asked))["model_id"]
    run = server.served.store.run(model_id, owner="local")
    assert run is not None
    assert server.live.runs[model_id].training.config.seed == run.lora["seed"]
    return run.lora["seed"]


def test_the_layers_to_train_are_those_that_were_asked_for(http: httpx.Client, fake_server: Serving) -> None:
    caller = Caller.new(http, model=False)
    lora = {"rank": 4, "train_mlp": False, "train_unembed": False}
    asked = {"session_id": caller.session_id, "model_seq_id": 0, "base_model": FAKE_MODEL, "lora_config": lora}
    model_id = caller.done(caller.post("/create_model", asked))["model_id"]
    config = fake_server.live.runs[model_id].training.config
    assert (config.train_attn, config.train_mlp, config.train_unembed) == (True, False, False)
    assert (config.lora_alpha, config.lora_rank) == (32.0, 4)


@pytest.mark.parametrize(
    ("lora", "what"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": 1, "seed": -1}, "seed is -1"),
        ({"rank": 1, "train_mlp": False, "train_attn": False, "train_unembed": False}, "nothing is to be trained"),
        (None, "lora_config"),
    ],
)
def test_an_adapter_that_cannot_be_fails_in_its_future(
    http: httpx.Client, lora: dict[str, object] | None, what: str
) -> None:
    caller = Caller.new(http, model=False)
    asked = {"session_id": caller.session_id, "model_seq_id": 0, "base_model": FAKE_MODEL, "lora_config": lora}
    message, category = caller.failure(caller.post("/create_model", asked))
    assert (category, what in message) == ("user", True), message


def test_keys_that_are_not_known_are_ignored(http: httpx.Client) -> None:
    caller = Caller.new(http)
    assert caller.done(caller.call("/optim_step", adam_params={"learning_rate": 0.1, "new": 1}, newer={"a": []}))
