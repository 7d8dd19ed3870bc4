"""Does the embedded engine keep both ports' contracts, lightly until it is used?"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from crucible.adapters.torch import TorchBackend
from crucible.adapters.torch.failures import translated
from crucible.errors import ManifestError, ModelError, PortError
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SamplingParams
from crucible.ports.training_client import SessionConfig
from crucible.testing import contracts, fakes


def folder_of(reference: str) -> Path:
    if not (Path(reference) / "config.json").is_file():
        raise ModelError.of("there is no such model", given=reference)
    return Path(reference)


def make_backend(tmp_path: Path, **options: object) -> TorchBackend:
    return TorchBackend(
        checkpoint_dir=tmp_path / "checkpoints",
        resolve_model=folder_of,
        tokenizers=fakes.FakeTokenizerStore(),
        **{"threads": 1, "device": "cpu", **options},
    )


def write_model(folder: Path, *, seed: int) -> str:
    """A tiny Llama whose vocabulary is a little larger than the fake tokenizer's."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=272, max_position_embeddings=256, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("models")
    return write_model(root / "one", seed=0), write_model(root / "two", seed=1)


@pytest.fixture
def model(models: tuple[str, str]) -> str:
    return models[0]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[TorchBackend]:
    made = make_backend(tmp_path)
    yield made
    made.close()


class TestTorchTrainingClient(contracts.TrainingClientContract):
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


class TestTorchSamplingClient(contracts.SamplingClientContract):
    @pytest.fixture
    def client(self, backend):
        return backend.sampling_client

    @pytest.fixture
    def model(self, models):
        return models[0]


def test_making_a_backend_imports_no_torch_and_starts_no_thread(tmp_path: Path) -> None:
    program = f"""
import sys, threading
from pathlib import Path
from crucible.adapters.torch import TorchBackend
from crucible.testing.fakes import FakeTokenizerStore
backend = TorchBackend(checkpoint_dir=Path({str(tmp_path)!r}), resolve_model=Path, tokenizers=FakeTokenizerStore())
assert backend.training_client.capabilities().losses >= {{"cross_entropy", "ppo"}}
assert threading.active_count() == 1
backend.close()
heavy = {{"torch", "transformers", "safetensors", "tokenizers"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


def test_without_torch_the_first_request_names_the_install_command(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
sys.modules["torch"] = None
from crucible.adapters.torch import TorchBackend
from crucible.errors import MissingExtraError
from crucible.ports.training_client import SessionConfig
from crucible.testing.fakes import FakeTokenizerStore
backend = TorchBackend(checkpoint_dir=Path({str(tmp_path)!r}), resolve_model=Path, tokenizers=FakeTokenizerStore())
try:
    backend.training_client.start_session(SessionConfig(model="a-model")).result()
except MissingExtraError as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "pip install 'crucible-kitchen[torch]'" in finished.stdout, finished.stderr


def test_wrong_options_are_refused_when_the_backend_is_made(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"dtype.*\n.*token_budget"):
        make_backend(tmp_path, dtype="float8", token_budget=0)


def test_the_engine_ends_when_both_clients_are_closed(backend: TorchBackend, model: str) -> None:
    backend.training_client.start_session(SessionConfig(model=model)).result()
    backend.training_client.close()
    session = backend.sampling_client.start_session(base_model=model).result()
    backend.sampling_client.close()
    assert "crucible-engine" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(PortError, match="closed"):
        backend.sampling_client.compute_logprobs(session, ModelInput.from_ints([1, 2])).result()


def test_training_and_sampling_share_one_base_model(backend: TorchBackend, model: str) -> None:
    backend.training_client.start_session(SessionConfig(model=model)).result()
    backend.sampling_client.start_session(base_model=model).result()
    rooms = backend._engine.submit(
        lambda room: {id(each.loaded) for table in (room.trainer, room.weights) for each in table._sessions.values()}
    )
    assert len(rooms.result()) == 1


def test_a_model_path_is_checked_against_the_base_model_given(backend: TorchBackend, models: tuple[str, str]) -> None:
    training, sampling = backend.training_client, backend.sampling_client
    saved = training.save_weights_for_sampler(training.start_session(SessionConfig(model=models[0])).result(), "one")
    path = saved.result().path
    assert sampling.start_session(base_model=models[0], model_path=path).result().model_path == path
    with pytest.raises(ValueError, match="another base model"):
        sampling.start_session(base_model=models[1], model_path=path).result()


def test_closing_the_backend_ends_a_long_completion(backend: TorchBackend, model: str) -> None:
    sampling = backend.sampling_client
    session = sampling.start_session(base_model=model).result()
    params = SamplingParams(max_tokens=200, stop=[])
    long = sampling.sample(session, ModelInput.from_ints([1, 2]), num_samples=500, params=params)
    backend.close()
    with pytest.raises(PortError, match="closed"):
        long.result(timeout=10)


@pytest.mark.parametrize("foreign", [RuntimeError("shapes"), MemoryError("full"), OSError("disk"), OverflowError("x")])
def test_foreign_failures_become_port_errors_from_their_cause(foreign: Exception) -> None:
    with pytest.raises(PortError, match=type(foreign).__name__) as raised, translated():
        raise foreign
    assert raised.value.__cause__ is foreign
    assert (raised.value.adapter, raised.value.retryable) == ("torch", False)


@pytest.mark.parametrize("own", [ValueError("yours"), ModelError.of("yours"), KeyError("a bug"), AssertionError()])
def test_the_callers_mistakes_and_our_bugs_pass_unchanged(own: Exception) -> None:
    with pytest.raises(type(own)) as raised, translated():
        raise own
    assert raised.value is own
