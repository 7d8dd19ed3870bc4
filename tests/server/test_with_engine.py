"""Does the engine behind the server give the numbers that it gives without one?"""

from pathlib import Path

import numpy as np
import pytest
import tinker
import torch
from tinker import types

from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import AdamParams, SessionConfig
from serving import TINY_MODEL, Serving, running, sdk, torch_served

TOKENS = [10, 20, 30, 40, 50, 60]


@pytest.fixture
def client(torch_service: tinker.ServiceClient) -> tinker.TrainingClient:
    return torch_service.create_lora_training_client(base_model=TINY_MODEL, rank=4, seed=7).result()


def sent(weights: list[float] | None = None) -> types.Datum:
    inputs = {"target_tokens": TOKENS[1:], "weights": weights or [1.0] * 5}
    return types.Datum(model_input=types.ModelInput.from_ints(TOKENS[:-1]), loss_fn_inputs=inputs)


def trained(client: tinker.TrainingClient, steps: int = 3) -> list[float]:
    losses: list[float] = []
    for _ in range(steps):
        forward_backward = client.forward_backward([sent(), sent([0.5, 0, -1, 0, 2])], "cross_entropy")
        client.optim_step(types.AdamParams(learning_rate=1e-2)).result()
        losses.append(forward_backward.result().metrics["loss:sum"])
    return losses


def test_a_run_through_the_server_has_the_bytes_of_one_without(
    client: tinker.TrainingClient, torch_server: Serving
) -> None:
    port = torch_server.served.training
    config = SessionConfig(model=torch_server.served.models[TINY_MODEL], lora_rank=4, seed=7, train_unembed=True)
    session = port.start_session(config).result()
    targets = {"target_tokens": TensorData(TOKENS[1:])}
    datums = [
        Datum(ModelInput.from_ints(TOKENS[:-1]), {**targets, "weights": TensorData(np.array(w, dtype=np.float32))})
        for w in ([1.0] * 5, [0.5, 0, -1, 0, 2])
    ]
    losses: list[float] = []
    for _ in range(3):
        losses.append(port.forward_backward(session, datums).result().metrics["loss:sum"])
        port.optim_step(session, AdamParams(learning_rate=1e-2)).result()
    assert trained(client) == losses
    assert losses[2] < losses[0]


def test_the_trainers_logprobs_are_the_samplers(client: tinker.TrainingClient) -> None:
    trained(client)
    scored = client.forward([sent()], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].to_numpy()
    sampler = client.save_weights_and_get_sampling_client().result()
    sampled = sampler.compute_logprobs(types.ModelInput.from_ints(TOKENS)).result()
    assert np.allclose(scored, sampled[1:], atol=1e-4)


def test_a_sparse_matrix_of_targets_is_trained_on(client: tinker.TrainingClient) -> None:
    targets, weights = torch.zeros(5, 30, dtype=torch.int64), torch.zeros(5, 30)
    targets[:, 0], weights[:, 0] = torch.tensor(TOKENS[1:]), 1.0
    matrix = types.Datum(
        model_input=types.ModelInput.from_ints(TOKENS[:-1]),
        loss_fn_inputs={"target_tokens": targets, "weights": weights},
    )
    assert matrix.loss_fn_inputs["weights"].sparse_crow_indices is not None
    result = client.forward([matrix], "cross_entropy").result()
    plain = client.forward([sent()], "cross_entropy").result()
    assert result.metrics["loss:sum"] == pytest.approx(plain.metrics["loss:sum"], rel=1e-5)
    assert result.loss_fn_outputs[0]["logprobs"].shape == [5, 30]


def test_a_resumed_optimizer_goes_on_as_if_nothing_had_happened(
    client: tinker.TrainingClient, torch_service: tinker.ServiceClient
) -> None:
    trained(client)
    path = client.save_state("halfway").result().path
    again = torch_service.create_training_client_from_state_with_optimizer(path).result()
    fresh = torch_service.create_training_client_from_state(path).result()
    goes_on = trained(client)
    assert trained(again) == goes_on
    assert trained(fresh)[0] == goes_on[0] != trained(fresh)[1]


def test_a_clipped_gradient_moves_no_further_than_it_may(client: tinker.TrainingClient) -> None:
    client.forward_backward([sent()], "cross_entropy")
    metrics = client.optim_step(types.AdamParams(learning_rate=1e-2, grad_clip_norm=1e-3)).result().metrics
    assert metrics is not None
    assert metrics["grad_norm"] > 1e-3


def test_all_that_can_be_reported_of_a_prompt(torch_service: tinker.ServiceClient) -> None:
    sampler = torch_service.create_sampling_client(base_model=TINY_MODEL).result()
    targets = torch.full((5, 8), -1, dtype=torch.int64)
    targets[4, 0] = TOKENS[5]
    response = sampler.sample(
        types.ModelInput.from_ints(TOKENS),
        2,
        types.SamplingParams(max_tokens=3, seed=1),
        include_prompt_logprobs=True,
        topk_prompt_logprobs=2,
        topk_sample_logprobs=3,
        target_prompt_logprobs=types.TensorData.from_torch_sparse(targets, pad_value=-1),
        prompt_alt_tokens_k=2,
        prompt_logprobs_last_n=2,
    ).result()
    assert response.prompt_logprobs is not None
    assert [value is None for value in response.prompt_logprobs] == [True] * 4 + [False] * 2
    assert response.target_prompt_logprobs is not None
    assert response.target_prompt_logprobs.data == pytest.approx([response.prompt_logprobs[5]], abs=1e-5)
    assert response.prompt_alt_tokens is not None
    assert response.prompt_alt_tokens.tokens.shape == [5, 2]
    assert all(len(sequence.topk_logprobs[0]) == 3 for sequence in response.sequences if sequence.topk_logprobs)


def test_a_checkpoint_outlives_its_server(tmp_path: Path, tiny_model: Path) -> None:
    with (
        torch_served(tmp_path, {TINY_MODEL: tiny_model}) as served,
        running(served) as server,
        sdk(server.url) as service,
    ):
        client = service.create_lora_training_client(base_model=TINY_MODEL, rank=4, seed=1).result()
        trained(client)
        path = client.save_state("kept").result().path
        expected = trained(client)
    with (
        torch_served(tmp_path, {TINY_MODEL: tiny_model}) as served,
        running(served) as server,
        sdk(server.url) as service,
    ):
        again = service.create_training_client_from_state_with_optimizer(path).result()
        assert trained(again) == expected
