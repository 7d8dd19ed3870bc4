"""Do many users of one engine leave each other's numbers, order, failures and memory alone?"""

import gc
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from crucible.adapters.torch import TorchBackend
from crucible.engine import checkpoint
from crucible.engine.lora import LoraAdapter
from crucible.errors import PortError
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.future import Future
from crucible.ports.sampling_client import SampleResponse, SamplingParams, SamplingSession
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, SessionConfig, TrainingSession
from crucible.testing import fakes

VOCAB = 272


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCAB, max_position_embeddings=256, initializer_range=0.2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make_backend(tmp_path: Path) -> Iterator[Callable[..., TorchBackend]]:
    made: list[TorchBackend] = []

    def make(**options: object) -> TorchBackend:
        settings = {"threads": 1, "device": "cpu", "token_budget": 24, **options}
        folder = tmp_path / str(len(made))
        made.append(
            TorchBackend(checkpoint_dir=folder, resolve_model=Path, tokenizers=fakes.FakeTokenizerStore(), **settings)
        )
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make_backend: Callable[..., TorchBackend]) -> TorchBackend:
    return make_backend()


def datums(seed: int, lengths: Sequence[int] = (9, 20, 4)) -> list[Datum]:
    rng = np.random.default_rng(seed)
    examples: list[Datum] = []
    for length in lengths:
        tokens = rng.integers(3, VOCAB, length + 1)
        tensors = {"target_tokens": TensorData(tokens[1:]), "weights": TensorData(rng.normal(size=length))}
        examples.append(Datum(ModelInput.from_ints(tokens[:-1].tolist()), tensors))
    return examples


def squares(_: Sequence[Datum], logprobs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
    return float(sum((row**2).sum() for row in logprobs)), [2 * row for row in logprobs]


def ask(backend: TorchBackend, session: TrainingSession, what: str, seed: int) -> Future[Any]:
    """One call of a training session."""
    client = backend.training_client
    match what:
        case "step":
            return client.optim_step(session, AdamParams(learning_rate=1e-2))
        case "custom":
            return client.forward_backward_custom(session, datums(seed), squares)
        case "forward":
            return client.forward(session, datums(seed))
        case "wrong":
            return client.forward_backward(session, datums(seed), loss_fn="no such loss")
        case _:
            return client.forward_backward(session, datums(seed))


def bytes_of(future: Future[Any]) -> object:
    """What a call gave, to the bit; the class of its error."""
    try:
        value = future.result()
    except Exception as error:  # noqa: BLE001  (whatever it is, it is to be the same)
        return type(error)
    if isinstance(value, ForwardBackwardOutput):
        rows = [{name: data.data.tobytes() for name, data in row.items()} for row in value.loss_fn_outputs]
        return rows, dict(value.metrics)
    return dict(value.metrics)


def draw(backend: TorchBackend, session: SamplingSession, seed: int) -> Future[SampleResponse]:
    prompt = ModelInput.from_ints([3 + seed, 5, 8])
    params = SamplingParams(max_tokens=4 + 3 * seed, seed=seed, stop=[])
    return backend.sampling_client.sample(session, prompt, num_samples=2, params=params)


@dataclass
class Alone:
    """What each script and each sample gives when nothing else runs, computed once."""

    backend: TorchBackend
    model: str

    def __post_init__(self) -> None:
        self.policy = self.start(seed=9)
        for what in ("forward_backward", "step"):
            ask(self.backend, self.policy, what, 0).result()
        saved = self.backend.training_client.save_weights_for_sampler(self.policy, "policy").result()
        opened = self.backend.sampling_client.start_session
        self.samplers = [opened(base_model=self.model).result(), opened(model_path=saved.path).result()]
        self.samples = [[draw(self.backend, sampler, seed).result() for seed in range(4)] for sampler in self.samplers]
        self._known: dict[tuple[Any, ...], list[object]] = {}

    def start(self, *, seed: int) -> TrainingSession:
        config = SessionConfig(model=self.model, lora_rank=1 + seed % 4, seed=seed)
        return self.backend.training_client.start_session(config).result()

    def script(self, seed: int, calls: tuple[str, ...]) -> list[object]:
        if (seed, calls) not in self._known:
            session = self.start(seed=seed)
            self._known[seed, calls] = [bytes_of(ask(self.backend, session, what, seed)) for what in calls]
            self.backend.training_client.close_session(session)
        return self._known[seed, calls]


@pytest.fixture(scope="module")
def alone(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    backend = TorchBackend(
        checkpoint_dir=tmp_path_factory.mktemp("saved"),
        resolve_model=Path,
        tokenizers=fakes.FakeTokenizerStore(),
        threads=1,
        device="cpu",
        token_budget=24,
    )
    yield Alone(backend, model)
    backend.close()


SCRIPT = st.lists(st.sampled_from(["forward_backward", "forward", "custom", "step", "wrong"]), max_size=5).map(tuple)


@settings(deadline=None, max_examples=15)
@given(
    scripts=st.lists(SCRIPT, min_size=1, max_size=4),
    samples=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), max_size=5),
    order=st.integers(0, 2**32),
)
def test_no_schedule_of_sessions_and_samples_changes_a_bit(
    alone: Alone, scripts: list[tuple[str, ...]], samples: list[tuple[int, int]], order: int
) -> None:
    backend, client = alone.backend, alone.backend.training_client
    sessions = [alone.start(seed=seed) for seed in range(len(scripts))]
    turns = [("train", user) for user, calls in enumerate(scripts) for _ in calls]
    turns += [("sample", place) for place in range(len(samples))]
    random.Random(order).shuffle(turns)
    waiting = [list(calls) for calls in scripts]
    trained: list[list[Future[Any]]] = [[] for _ in scripts]
    drawn: dict[int, Future[SampleResponse]] = {}
    for kind, number in turns:
        if kind == "train":
            trained[number].append(ask(backend, sessions[number], waiting[number].pop(0), number))
        else:
            sampler, seed = samples[number]
            drawn[number] = draw(backend, alone.samplers[sampler], seed)
    closed = [client.close_session(session) for session in sessions]
    for user, calls in enumerate(scripts):
        assert [bytes_of(future) for future in trained[user]] == alone.script(user, calls)
    for number, (sampler, seed) in enumerate(samples):
        assert drawn[number].result() == alone.samples[sampler][seed]
    for future in closed:
        future.result()


def test_a_sample_is_drawn_while_another_sessions_call_is_under_way(backend: TorchBackend, model: str) -> None:
    client = backend.training_client
    session = client.start_session(SessionConfig(model=model)).result()
    sampler = backend.sampling_client.start_session(base_model=model).result()
    draw(backend, sampler, 0).result()
    long = client.forward_backward(session, datums(0, [20] * 150))
    draw(backend, sampler, 0).result()
    assert not long.done()
    long.result()


def test_an_objective_that_hangs_holds_up_its_own_session_alone(backend: TorchBackend, model: str) -> None:
    client, release = backend.training_client, threading.Event()
    one, two = (client.start_session(SessionConfig(model=model, seed=seed)).result() for seed in range(2))

    def hangs(*given: Any) -> Any:
        release.wait(60)
        return squares(*given)

    hanging, behind = client.forward_backward_custom(one, datums(0), hangs), client.optim_step(one, AdamParams())
    for what in ("forward_backward", "custom", "step"):
        ask(backend, two, what, 1).result()
    assert not hanging.done() and not behind.done()
    release.set()
    assert behind.result().metrics["grad_norm"] > 0


def test_an_objective_that_exits_fails_its_own_call(backend: TorchBackend, model: str) -> None:
    client = backend.training_client
    session = client.start_session(SessionConfig(model=model)).result()

    def leaves(*_: Any) -> Any:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        client.forward_backward_custom(session, datums(0), leaves).result()
    assert client.optim_step(session, AdamParams()).result().metrics["grad_norm"] == 0


def test_a_slow_disk_holds_up_nobodys_training(
    backend: TorchBackend, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, release, write = backend.training_client, threading.Event(), checkpoint.save_file
    one, two = (client.start_session(SessionConfig(model=model, seed=seed)).result() for seed in range(2))
    monkeypatch.setattr(checkpoint, "save_file", lambda *given: (release.wait(60), write(*given)))
    first, second = client.save_checkpoint(one, "one"), client.save_checkpoint(two, "two")
    deleting = client.delete_checkpoint(backend._engine.checkpoint_path("weights", "one"))
    ask(backend, one, "forward_backward", 0).result()
    assert not first.done() and not second.done() and not deleting.done()
    release.set()
    assert deleting.result() is None and not Path(first.result().path).exists()
    assert Path(second.result().path).exists()


def test_calls_on_one_path_run_in_the_order_they_were_submitted(backend: TorchBackend, model: str) -> None:
    client = backend.training_client
    session = client.start_session(SessionConfig(model=model)).result()
    path = backend._engine.checkpoint_path("sampler_weights", "again")
    futures: list[Future[Any]] = []
    for seed in range(3):
        ask(backend, session, "forward_backward", seed), ask(backend, session, "step", seed)
        futures.append(client.save_weights_for_sampler(session, "again"))
        futures.append(backend.sampling_client.start_session(model_path=path))
        futures.append(client.delete_checkpoint(path))
    saved, opened = ([future.result() for future in futures[start::3]] for start in range(2))
    assert [weights.digest for weights in saved] == [sampler.digest for sampler in opened]
    assert [sampler.policy_version for sampler in opened] == [1, 2, 3]


def test_closing_under_load_ends_every_call_and_the_thread(backend: TorchBackend, model: str) -> None:
    client, release = backend.training_client, threading.Event()
    sessions = [client.start_session(SessionConfig(model=model, seed=seed)).result() for seed in range(3)]
    sampler = backend.sampling_client.start_session(base_model=model).result()
    futures = [
        client.forward_backward_custom(sessions[0], datums(0), lambda *given: (release.wait(60), squares(*given))[1])
    ]
    for seed in range(20):
        futures += [ask(backend, session, "forward_backward", seed) for session in sessions]
        futures.append(
            backend.sampling_client.sample(
                sampler, ModelInput.from_ints([5]), num_samples=4, params=SamplingParams(max_tokens=200, stop=[])
            )
        )
        futures.append(client.save_checkpoint(sessions[seed % 3], str(seed), optimizer=False))
    backend.close()
    ended = [failure_of(future) for future in futures]
    assert ended.count(PortError) > 10 and set(ended) <= {PortError, None}
    release.set()
    assert not backend._engine._worker._thread.is_alive()


def failure_of(future: Future[Any]) -> type[BaseException] | None:
    try:
        future.result(timeout=30)
    except PortError as error:
        return type(error)
    return None


def adapters_in_memory() -> int:
    gc.collect()
    return sum(type(each) is LoraAdapter for each in gc.get_objects())


def held(backend: TorchBackend) -> dict[str, float]:
    """What the engine holds once the unit that is running has ended."""
    backend.training_client.environment()
    return {name: value for name, value in backend.sampling_client.statistics().items() if name != "calls_waiting"}


def test_two_hundred_sessions_opened_and_closed_leave_nothing(backend: TorchBackend, model: str) -> None:
    training, sampling = backend.training_client, backend.sampling_client
    first = training.start_session(SessionConfig(model=model, lora_rank=2)).result()
    path = training.save_weights_for_sampler(first, "policy").result().path
    draw(backend, sampling.start_session(base_model=model).result(), 0).result()
    before, others = held(backend), adapters_in_memory()
    for seed in range(100):
        trained = training.start_session(SessionConfig(model=model, lora_rank=2, seed=seed)).result()
        sampler = sampling.start_session(model_path=path).result()
        futures: list[Future[Any]] = []
        if seed % 10 == 0:
            futures += [ask(backend, trained, "forward_backward", seed), ask(backend, trained, "step", seed)]
            futures.append(draw(backend, sampler, 0))
        futures += [training.close_session(trained), sampling.close_session(sampler)]
        for future in futures:
            future.result()
    del trained, sampler, futures, future
    assert adapters_in_memory() == others
    assert held(backend) == before
    assert len(backend._engine._worker._lanes) == 0


def test_samplers_of_one_path_share_a_copy_that_goes_with_the_last(backend: TorchBackend, model: str) -> None:
    training, sampling = backend.training_client, backend.sampling_client
    trained = training.start_session(SessionConfig(model=model)).result()
    path = training.save_weights_for_sampler(trained, "policy").result().path
    base = sampling.start_session(base_model=model).result()
    draw(backend, base, 0).result()
    before = held(backend)["memory_bytes"]
    one = sampling.start_session(model_path=path).result()
    opened = held(backend)["memory_bytes"]
    two = sampling.start_session(model_path=path).result()
    adapter = weakref.ref(backend._engine.submit(lambda room: room.weights.of(one)).result().adapter)
    assert opened > before and held(backend)["memory_bytes"] == opened
    drawing = draw(backend, two, 3)
    sampling.close_session(one).result(), sampling.close_session(two).result()
    drawing.result()
    sampling.compute_logprobs(base, ModelInput.from_ints([1, 2])).result()
    gc.collect()
    assert adapter() is None and held(backend)["memory_bytes"] == before


def test_a_session_that_does_not_fit_is_refused_until_another_ends(
    make_backend: Callable[..., TorchBackend], model: str
) -> None:
    free = make_backend()
    free.training_client.start_session(SessionConfig(model=model, lora_rank=8)).result()
    limit = int(free.training_client.statistics()["memory_bytes"])
    client = make_backend(max_memory=limit + 100).training_client
    first = client.start_session(SessionConfig(model=model, lora_rank=8)).result()
    assert client.statistics()["memory_limit_bytes"] == limit + 100
    with pytest.raises(PortError, match=r"a training session of rank 8 needs .* MiB") as raised:
        client.start_session(SessionConfig(model=model, lora_rank=8)).result()
    assert raised.value.retryable and raised.value.details["queue_state"] == "paused_capacity"
    client.close_session(first).result()
    client.start_session(SessionConfig(model=model, lora_rank=8)).result()


def test_mixed_sessions_learn_as_they_would_alone(make_backend: Callable[..., TorchBackend], model: str) -> None:
    norms: list[list[float]] = []
    for mixed in (False, True):
        client = make_backend(mix_adapters=mixed).training_client
        sessions = [client.start_session(SessionConfig(model=model, seed=seed)).result() for seed in range(3)]
        steps: list[Future[Any]] = []
        for seed in range(2):
            for session in sessions:
                client.forward_backward(session, datums(seed))
                client.forward_backward_custom(session, datums(seed), squares)
                steps.append(client.optim_step(session, AdamParams(learning_rate=1e-3)))
        norms.append([step.result().metrics["grad_norm"] for step in steps])
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
