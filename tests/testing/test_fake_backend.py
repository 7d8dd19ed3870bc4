"""What the training and sampling fakes promise beyond their ports."""

import time

import numpy as np
import pytest

from crucible.errors import PortError
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.sampling_client import SamplingParams
from crucible.ports.training_client import AdamParams, SessionConfig
from crucible.testing.fakes import FakeBackend, FakeSamplingClient, FakeTrainingClient

IDS = list(b"What is two and two? Four.")
DATUM = Datum(
    ModelInput.from_ints(IDS[:-1]),
    {"target_tokens": TensorData(IDS[1:]), "weights": TensorData(np.r_[np.zeros(20), np.ones(5)])},
)


def losses(backend, *, seed=0, steps=5):
    client = backend.training_client
    session = client.start_session(SessionConfig(model="a-model", seed=seed)).result()
    found = []
    for _ in range(steps):
        found.append(client.forward_backward(session, [DATUM]).result().metrics["loss:sum"])
        client.optim_step(session, AdamParams()).result()
    return found


@pytest.fixture
def backend():
    backend = FakeBackend()
    yield backend
    backend.close()


def test_the_loss_is_a_function_of_datums_and_updates_and_falls(backend):
    first = losses(backend)
    assert first == losses(backend, seed=7)
    assert first == sorted(first, reverse=True) and first[-1] < first[0] * 0.75
    assert losses(backend, steps=1)[0] == pytest.approx(15.8358, abs=1e-4), "it changes with no version"


def test_logprobs_that_were_not_wanted_are_nan(backend):
    client = backend.training_client
    session = client.start_session(SessionConfig(model="a-model")).result()
    output = client.forward(session, [DATUM], logprobs="weighted").result().loss_fn_outputs[0]
    assert np.isnan(output["logprobs"].data).tolist() == [True] * 20 + [False] * 5
    assert np.isfinite(output["elementwise_loss"].data).all()


def test_fakes_say_that_they_compute_nothing(backend):
    assert not backend.training_client.capabilities().computes
    assert not backend.sampling_client.capabilities().computes
    assert backend.training_client.is_noop and backend.sampling_client.is_noop


def test_checkpoints_on_disk_outlive_the_backend(tmp_path):
    config = SessionConfig(model="a-model")
    first = FakeTrainingClient(checkpoint_dir=tmp_path / "checkpoints")
    saved = first.save_checkpoint(first.start_session(config).result(), "one").result()
    first.close()
    second = FakeTrainingClient(checkpoint_dir=tmp_path / "checkpoints")
    second.load_checkpoint(second.start_session(config).result(), saved.path).result()
    second.close()
    assert not [path for path in (tmp_path / "checkpoints").rglob("*") if path.name.startswith(".")]


def run_batches(depth, *, batches=6, seconds=0.02):
    """Wall time of a loop that prepares each batch for `seconds` and awaits `depth` batches later."""
    client = FakeTrainingClient(latency=seconds)
    session = client.start_session(SessionConfig(model="a-model")).result()
    began, in_flight = time.monotonic(), []
    for _ in range(batches):
        time.sleep(seconds)
        in_flight.append(client.forward_backward(session, [DATUM]))
        while len(in_flight) > depth:
            in_flight.pop(0).result()
    for future in in_flight:
        future.result()
    elapsed = time.monotonic() - began
    client.close()
    return elapsed


def test_a_slow_backend_works_while_the_caller_prepares():
    assert run_batches(depth=1) < 0.8 * run_batches(depth=0)


def test_a_closed_client_finishes_what_was_submitted_and_takes_no_more():
    client = FakeTrainingClient(latency=0.01)
    starting = client.start_session(SessionConfig(model="a-model"))
    client.close()
    assert starting.done()
    with pytest.raises(PortError, match="closed"):
        client.start_session(SessionConfig(model="a-model"))


def test_fresh_seeds_are_the_same_in_every_run():
    drawn = []
    for _ in range(2):
        client = FakeSamplingClient()
        session = client.start_session(base_model="a-model").result()
        call = (session, ModelInput.from_ints(IDS))
        drawn.append([client.sample(*call, params=SamplingParams()).result() for _ in range(3)])
        client.close()
    assert drawn[0] == drawn[1]


def test_completions_are_text(backend):
    client = backend.sampling_client
    session = client.start_session(base_model="a-model").result()
    params = SamplingParams(seed=1, stop=[])
    drawn = client.sample(session, ModelInput.from_ints(IDS), params=params).result().sequences[0]
    text = client.get_tokenizer(session).decode(drawn.tokens, skip_special=True)
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz ")
