"""Does the Tinker adapter keep both ports' contracts, through the SDK and HTTP, over our server and engine?"""

import shutil
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from crucible.adapters.tinker import TinkerBackend
from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.sampling_client import SampleReport, SamplingParams
from crucible.ports.training_client import AdamParams, SessionConfig
from crucible.testing import contracts
from serving import KEY, Serving, running, torch_served

STEP = AdamParams(learning_rate=1e-3)


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two base models that differ in one weight."""
    other = tmp_path_factory.mktemp("models") / "changed"
    shutil.copytree(tiny_model, other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    return str(tiny_model), str(other)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: tuple[str, str]) -> Iterator[Serving]:
    folders = {model: Path(model) for model in models}
    with torch_served(tmp_path_factory.mktemp("server"), folders) as served, running(served) as serving:
        yield serving


@pytest.fixture
def backend(server: Serving) -> Iterator[TinkerBackend]:
    tokenizers = HfTokenizerStore(resolve_model=Path)
    made = TinkerBackend(tokenizers=tokenizers, base_url=server.url, api_key=KEY, exact=True)
    yield made
    made.close()


def every_tensor(n: int, shape: tuple[int, ...]) -> Datum:
    """A datum with what any loss may ask for."""
    rng = np.random.default_rng(7)
    tensors = {
        "target_tokens": TensorData(rng.integers(3, 250, shape)),
        "weights": TensorData(rng.normal(size=shape)),
        "logprobs": TensorData(rng.normal(-3, 1, shape)),
        "advantages": TensorData(rng.normal(size=shape)),
        "sequence_ratio_mask": TensorData(np.arange(n) % 3 > 0),
    }
    return Datum(ModelInput.from_ints(rng.integers(3, 250, n).tolist()), tensors)


def taken(loss_fn: str, datum: Datum) -> Datum:
    names = {"cross_entropy": ("weights",), "gspo": ("logprobs", "advantages", "sequence_ratio_mask")}
    kept = {"target_tokens", *names.get(loss_fn, ("logprobs", "advantages"))}
    return Datum(datum.model_input, {name: data for name, data in datum.loss_fn_inputs.items() if name in kept})


def as_float32(value: object) -> object:
    """The same values, floats as the wire has them."""
    if isinstance(value, tuple):
        return tuple(as_float32(each) for each in value)
    return float(np.float32(value)) if isinstance(value, float) else value


def test_every_loss_of_the_engine_is_the_same_through_sdk_and_http(
    server: Serving, backend: TinkerBackend, models: tuple[str, str]
) -> None:
    clients = (server.served.training, backend.training_client)
    sessions = [client.start_session(SessionConfig(model=models[0], lora_rank=4)).result(120) for client in clients]
    for loss_fn in sorted(clients[0].capabilities().losses & clients[1].capabilities().losses):
        shapes = [(6,), (6, 3)] if loss_fn in ("cross_entropy", "importance_sampling") else [(6,)]
        config = {"clip_low_threshold": 0.7, "clip_high_threshold": 1.1} if loss_fn in ("ppo", "cispo", "gspo") else {}
        for datum in [taken(loss_fn, every_tensor(6, shape)) for shape in shapes]:
            here, there = (
                client.forward_backward(session, [datum], loss_fn=loss_fn, loss_fn_config=config).result(120)
                for client, session in zip(clients, sessions, strict=True)
            )
            assert here.loss_fn_outputs == there.loss_fn_outputs and here.metrics == there.metrics, loss_fn
    norms = [
        client.optim_step(session, STEP).result(120).metrics for client, session in zip(clients, sessions, strict=True)
    ]
    assert norms[0] == norms[1]


def test_everything_that_a_sample_reports_is_the_same_through_sdk_and_http(
    server: Serving, backend: TinkerBackend, models: tuple[str, str]
) -> None:
    prompt = ModelInput.from_ints([5, 40, 41, 42, 43])
    report = SampleReport(
        topk_prompt_logprobs=3,
        topk_sample_logprobs=2,
        target_prompt_logprobs=TensorData([[3, -1], [-1, -1], [9, 8], [7, 6]]),
        prompt_alt_tokens_k=2,
        prompt_logprobs_last_n=3,
    )
    params = SamplingParams(max_tokens=6, seed=3, temperature=0.8, stop=[])
    here, there = (
        client.sample(
            client.start_session(base_model=models[0]).result(120),
            prompt,
            num_samples=2,
            params=params,
            prompt_logprobs=True,
            report=report,
        ).result(120)
        for client in (server.served.sampling, backend.sampling_client)
    )
    assert as_float32(astuple(here)) == as_float32(astuple(there))


class TestTinkerTrainingClient(contracts.TrainingClientContract):
    @pytest.fixture
    def client(self, backend):
        return backend.training_client

    @pytest.fixture
    def sampling(self, backend):
        return backend.sampling_client

    @pytest.fixture
    def model(self, models):
        return models[0]

    @pytest.fixture
    def other_model(self, models):
        return models[1]


class TestTinkerSamplingClient(contracts.SamplingClientContract):
    @pytest.fixture
    def client(self, backend):
        return backend.sampling_client

    @pytest.fixture
    def model(self, models):
        return models[0]
