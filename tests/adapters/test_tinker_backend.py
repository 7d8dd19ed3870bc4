"""Does the Tinker adapter say plainly what a service of any make refuses, and keep the order of calls?"""

import asyncio
import importlib.util
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tinker_probe import MODEL, RUN, Probe, probing

from crucible.adapters.tinker import TinkerBackend
from crucible.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ForeignCheckpointError,
    ManifestError,
    MissingExtraError,
    ModelError,
    PortError,
    UnsupportedError,
)
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.sampling_client import SamplingParams
from crucible.ports.training_client import AdamParams, SessionConfig, TrainingSession
from crucible.testing.fakes import FakeTokenizerStore

WAIT = 30.0
KEY = "tml-a-secret-of-mine"
STEP = AdamParams()
DATUM = Datum(ModelInput.from_ints([1, 2]), {"target_tokens": TensorData([2, 3])})


@pytest.fixture
def probe() -> Iterator[Probe]:
    with probing() as made:
        yield made


@pytest.fixture
def backend(probe: Probe) -> Iterator[TinkerBackend]:
    made = TinkerBackend(tokenizers=FakeTokenizerStore(), base_url=probe.url, api_key=KEY, ttl_seconds=7200)
    yield made
    made.close()


@pytest.fixture
def session(backend: TinkerBackend) -> TrainingSession:
    return backend.training_client.start_session(SessionConfig(model=MODEL)).result(WAIT)


def failed(sentence: str, category: str = "user") -> dict[str, str]:
    return {"error": sentence, "category": category}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (failed("the batch is wrong"), DataError),
        (failed("UnsupportedError: no such loss"), UnsupportedError),
        (failed("ValueError: a datum lacks weights"), DataError),
        (failed("NoErrorOfOurs: a sentence"), DataError),
        (failed("it broke", "server"), PortError),
        (failed("PortError: it broke", "server"), PortError),
        (failed("who knows", "unknown"), PortError),
        (404, PortError),
        (410, PortError),
    ],
)
def test_a_failed_request_is_the_callers_mistake_or_the_services_failure(
    said: object, kind: type[Exception], probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    probe.futures["optim_step"] = said
    with pytest.raises(kind) as raised:
        backend.training_client.optim_step(session, STEP).result(WAIT)
    assert raised.value.__cause__ is not None and "request_id" not in str(raised.value).split("Error retrieving")[0]
    assert kind is not PortError or raised.value.retryable is False  # it may have been carried out


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ModelError), (404, ModelError), (422, ModelError), (401, ManifestError)]
)
def test_a_refused_model_names_what_the_service_said(
    status: int, kind: type[Exception], probe: Probe, backend: TinkerBackend
) -> None:
    probe.answers["create_model"] = (status, {"detail": f"no model for {KEY}"})
    with pytest.raises(kind, match=r"no model for \[api_key\]"):
        backend.training_client.start_session(SessionConfig(model=MODEL)).result(WAIT)


def test_what_a_service_may_repeat_is_retryable(probe: Probe, backend: TinkerBackend) -> None:
    probe.futures["asample"] = failed("no room", "server")
    sampling = backend.sampling_client
    session = sampling.start_session(base_model=MODEL).result(WAIT)
    drawing = sampling.sample(session, ModelInput.from_ints([1]), params=SamplingParams())
    with pytest.raises(PortError, match="no room") as raised:
        drawing.result(WAIT)
    assert raised.value.retryable and raised.value.details["category"] == "server"


def test_a_missing_sampler_is_a_missing_model_or_checkpoint(probe: Probe, backend: TinkerBackend) -> None:
    probe.answers["create_sampling_session"] = 404
    with pytest.raises(ModelError):
        backend.sampling_client.start_session(base_model="org/none").result(WAIT)
    with pytest.raises(CheckpointError):
        backend.sampling_client.start_session(model_path=f"tinker://{RUN}/sampler_weights/none").result(WAIT)
    with pytest.raises(CheckpointError, match="tinker://RUN"):
        backend.sampling_client.start_session(model_path="/a/folder").result(WAIT)


def test_weights_of_another_model_are_refused(backend: TinkerBackend) -> None:
    starting = backend.sampling_client.start_session(base_model="org/other", model_path=f"tinker://{RUN}/weights/one")
    with pytest.raises(ForeignCheckpointError, match=MODEL):
        starting.result(WAIT)


@pytest.mark.parametrize(
    ("info", "kind", "said"),
    [
        ({"base_model": "org/other"}, ForeignCheckpointError, "org/other"),
        ({"lora_rank": 8}, CheckpointError, "lora_rank is 8"),
        ({"train_unembed": True}, CheckpointError, "train_unembed"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_it_is_loaded(
    info: dict[str, object],
    kind: type[Exception],
    said: str,
    probe: Probe,
    backend: TinkerBackend,
    session: TrainingSession,
) -> None:
    probe.answers["weights_info"] = {"base_model": MODEL, "is_lora": True, "lora_rank": 32, **info}
    with pytest.raises(kind, match=said):
        backend.training_client.load_checkpoint(session, f"tinker://{RUN}/weights/one").result(WAIT)
    assert not probe.asked("load_weights")


def test_a_name_that_is_saved_again_gets_a_path_of_its_own_and_the_one_before_is_deleted(
    probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    training = backend.training_client
    saved = [training.save_checkpoint(session, "rolling", overwrite=True) for _ in range(3)]
    paths = [each.result(WAIT).path for each in saved]
    assert paths == [f"tinker://{RUN}/weights/rolling{number}" for number in ("", "-2", "-3")]
    training.delete_checkpoint(paths[2]).result(WAIT)  # in the line of what was to be deleted before
    deleted = [name.rpartition("/")[2] for name, _ in probe.seen if name.startswith("DELETE")]
    assert deleted[-1] == "rolling-3" and set(deleted[:-1]) <= {"rolling", "rolling-2"} and len(deleted) > 1


def test_a_save_that_fails_gives_its_name_back(probe: Probe, backend: TinkerBackend, session: TrainingSession) -> None:
    training = backend.training_client
    probe.futures["save_weights"] = failed("the disk is full", "server")
    with pytest.raises(PortError, match="the disk is full"):
        training.save_checkpoint(session, "one").result(WAIT)
    del probe.futures["save_weights"]
    assert training.save_checkpoint(session, "one").result(WAIT).path.endswith("/one-2")
    with pytest.raises(CheckpointError, match="exists"):
        training.save_checkpoint(session, "one").result(WAIT)


def test_closing_fails_what_waits_and_what_comes_later(
    probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    probe.futures["optim_step"] = 408
    waiting = backend.training_client.optim_step(session, STEP)
    while not probe.asked("optim_step"):
        time.sleep(0.01)
    backend.close()
    for future in (waiting, backend.training_client.optim_step(session, STEP)):
        with pytest.raises(PortError, match="closed"):
            future.result(WAIT)


def test_an_address_where_nobody_answers_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    backend = TinkerBackend(tokenizers=FakeTokenizerStore(), base_url=url, api_key=KEY)
    for starting in (
        backend.training_client.start_session(SessionConfig(model=MODEL)),
        backend.sampling_client.start_session(base_model=MODEL),
    ):
        with pytest.raises(PortError, match=f"{url} cannot be reached") as raised:
            starting.result(WAIT)
        assert raised.value.retryable
    backend.close()


def test_the_facts_of_a_model_are_those_of_its_folder_here(tiny_model: Path, backend: TinkerBackend) -> None:
    assert backend.training_client.model_facts(MODEL) is None

    def folder_of(reference: str) -> Path:
        if reference != MODEL:
            raise ModelError.of("there is no such model", given=reference)
        return tiny_model

    near = TinkerBackend(tokenizers=FakeTokenizerStore(), resolve_model=folder_of).training_client
    facts = near.model_facts(MODEL)
    assert facts is not None and (facts.model_type, facts.hidden_size) == ("llama", 32)
    assert near.model_facts("org/other") is None


def test_what_was_saved_is_known_again_by_another_process(
    probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    path = f"tinker://{RUN}/weights/one"
    training = backend.training_client
    for _ in range(3):
        training.optim_step(session, STEP)
    assert training.save_checkpoint(session, "one").result(WAIT).policy_version == 3
    kept = probe.asked("save_weights")[0]
    assert (kept["ttl_seconds"], kept["path"]) == (7200, "one")
    probe.answers[f"training_runs/{RUN}/checkpoints"] = {
        "checkpoints": [
            {
                "checkpoint_id": "weights/one",
                "checkpoint_type": "training",
                "time": "2026-01-01T00:00:00Z",
                "tinker_path": path,
                "user_metadata": kept["user_metadata"],
            }
        ]
    }
    other = TinkerBackend(tokenizers=FakeTokenizerStore(), base_url=probe.url, api_key=KEY)
    try:
        again = other.training_client.start_session(SessionConfig(model=MODEL)).result(WAIT)
        other.training_client.load_checkpoint(again, path).result(WAIT)
        other.training_client.optim_step(again, STEP)
        assert other.training_client.save_checkpoint(again, "one").result(WAIT).policy_version == 4
        assert other.sampling_client.start_session(model_path=path).result(WAIT).policy_version == 4
    finally:
        other.close()


def test_calls_reach_the_service_in_the_order_they_were_made_from_many_tasks(
    probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    async def make(number: int) -> None:
        await backend.training_client.optim_step(session, AdamParams(learning_rate=float(number)))

    async def many() -> None:
        await asyncio.gather(*(make(number) for number in range(40)))

    asyncio.run(many())
    sent = [body["adam_params"]["learning_rate"] for body in probe.asked("optim_step")]
    assert sent == [float(number) for number in range(40)]


def test_a_task_that_stops_waiting_does_not_stop_the_request(backend: TinkerBackend, session: TrainingSession) -> None:
    async def leave() -> object:
        future = backend.training_client.optim_step(session, STEP)
        task = asyncio.ensure_future(_awaited(future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await future

    assert asyncio.run(leave()) is not None


async def _awaited(future: object) -> object:
    return await future


def test_thousands_of_calls_take_one_thread(backend: TinkerBackend, session: TrainingSession) -> None:
    before = threading.active_count()
    futures = [backend.training_client.optim_step(session, STEP) for _ in range(200)]
    assert threading.active_count() <= before + 1
    assert len({id(future.result(WAIT)) for future in futures}) == 200


@pytest.mark.parametrize(
    ("config", "kind", "said"),
    [
        ({"lora_alpha": 8.0}, UnsupportedError, "lora_alpha"),
        ({"lora_rank": 0}, ConfigError, "lora_rank"),
        ({"train_attn": False, "train_mlp": False}, ConfigError, "no layer"),
    ],
)
def test_what_the_protocol_lacks_is_refused_by_name_before_anything_is_sent(
    config: dict[str, object], kind: type[Exception], said: str, probe: Probe, backend: TinkerBackend
) -> None:
    with pytest.raises(kind, match=said):
        backend.training_client.start_session(SessionConfig(model=MODEL, **config)).result(WAIT)
    assert not probe.seen


def test_every_loss_of_the_sdk_is_passed_on_and_no_other(
    probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    training = backend.training_client
    assert {"stable_reinforce", "gspo", "cross_entropy"} <= training.capabilities().losses
    probe.futures["forward_backward"] = failed("UnsupportedError: not here")
    with pytest.raises(UnsupportedError, match="not here"):
        training.forward_backward(session, [DATUM], loss_fn="stable_reinforce").result(WAIT)
    with pytest.raises(UnsupportedError, match="Did you mean gspo"):
        training.forward_backward(session, [DATUM], loss_fn="gspoo").result(WAIT)
    assert len(probe.asked("forward_backward")) == 1


def test_a_missing_key_is_one_sentence_when_the_service_is_asked(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    backend = TinkerBackend(tokenizers=FakeTokenizerStore(), base_url=probe.url)
    with pytest.raises(ManifestError, match=r"none was given\. Set TINKER_API_KEY"):
        backend.training_client.start_session(SessionConfig(model=MODEL)).result(WAIT)
    backend.close()


def test_the_option_goes_before_the_environment_and_that_before_nothing(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINKER_BASE_URL", probe.url)
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    for options, service in (({}, probe.url), ({"base_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9")):
        backend = TinkerBackend(tokenizers=FakeTokenizerStore(), **options)
        assert backend.training_client.environment()["service"] == service
        backend.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "ftp://somewhere"}, "tinker.base_url"),
        ({"base_url": "http://me:hidden@somewhere"}, "a password"),
        ({"api_key": "tml-\nhidden"}, "tinker.api_key"),
        ({"ttl_seconds": 60}, "tinker.ttl_seconds"),
        ({"project_id": 3}, "tinker.project_id"),
        ({"exact": "yes"}, "tinker.exact"),
    ],
)
def test_wrong_options_are_refused_when_the_backend_is_made(options: dict[str, object], said: str) -> None:
    with pytest.raises(ManifestError, match=said) as raised:
        TinkerBackend(tokenizers=FakeTokenizerStore(), **options)
    assert "hidden" not in str(raised.value)


def test_the_key_is_in_no_repr_and_no_log(
    backend: TinkerBackend, session: TrainingSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        backend.training_client.optim_step(session, STEP).result(WAIT)
    shown = [repr(backend), repr(backend._service.options), repr(session), repr(backend.training_client), caplog.text]
    assert not any(KEY in text for text in shown)


def test_the_sdks_telemetry_is_silent_unless_it_is_asked_for(
    probe: Probe, backend: TinkerBackend, session: TrainingSession
) -> None:
    backend.training_client.optim_step(session, STEP).result(WAIT)
    backend.close()
    assert not probe.asked("telemetry")
    assert [body["reason"] for body in probe.asked("sessions/session-1/finish")] == [{"type": "success"}]


def test_a_tokenizer_that_is_not_known_here_is_the_one_that_the_service_names(probe: Probe) -> None:
    class Few(FakeTokenizerStore):
        def load(self, model: str):
            if model != "there":
                raise ModelError.of("there is no such model", given=model)
            return super().load(model)

    backend = TinkerBackend(tokenizers=Few(), base_url=probe.url, api_key=KEY)
    try:
        session = backend.training_client.start_session(SessionConfig(model=MODEL)).result(WAIT)
        assert backend.training_client.get_tokenizer(session).vocab_size > 0
    finally:
        backend.close()


def test_making_a_backend_imports_no_sdk_and_starts_no_thread() -> None:
    program = """
import sys, threading
from crucible.adapters.tinker import TinkerBackend
from crucible.testing.fakes import FakeTokenizerStore
backend = TinkerBackend(tokenizers=FakeTokenizerStore())
assert threading.active_count() == 1
backend.close()
heavy = {"torch", "tinker", "httpx"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr


def test_without_the_sdk_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda of, *more: None if of == "tinker" else found(of, *more))
    with pytest.raises(MissingExtraError, match=r"pip install 'crucible-kitchen\[tinker\]'"):
        TinkerBackend(tokenizers=FakeTokenizerStore())
