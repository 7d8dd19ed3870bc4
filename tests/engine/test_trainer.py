"""Do Tinker's verbs keep the port's promises on real tiny models: order, isolation, rollback, exact resume?"""

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from numpy.typing import NDArray
from tiny_models import datum, datums

from crucible.engine import micro_batch
from crucible.engine.engine import Engine
from crucible.engine.options import EngineOptions
from crucible.errors import CheckpointError, ConfigError, DataError, ManifestError, UnsupportedError
from crucible.ports.datum import Datum
from crucible.ports.future import Future
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, SessionConfig, TrainingSession

STEP = AdamParams(learning_rate=1e-2)


class Client:
    """The engine's training verbs with the defaults that tests want."""

    def __init__(self, folder: Path, model: Path, **options: object) -> None:
        self.model, self.folder = str(model), folder
        settings = EngineOptions(checkpoint_dir=folder, threads=1, token_budget=24, **options)
        self.engine = Engine(settings, resolve_model=Path)

    def start(self, **config: object) -> TrainingSession:
        made = SessionConfig(**{"model": self.model, "lora_rank": 2, "seed": 1, **config})
        return self.engine.submit(lambda room: room.trainer.start_session(made)).result()

    def score(
        self, session: TrainingSession, examples: list[Datum], *, backward: bool = True, loss_fn: str = "cross_entropy"
    ) -> Future[ForwardBackwardOutput]:
        return self.engine.submit(
            lambda room: room.trainer.forward(
                session, examples, loss_fn=loss_fn, loss_fn_config=None, logprobs="all", backward=backward
            ),
            session=session.session_id,
        )

    def custom(self, session: TrainingSession, examples: list[Datum], objective: Callable) -> ForwardBackwardOutput:
        return self.engine.submit(
            lambda room: room.trainer.forward_backward_custom(session, examples, objective), session=session.session_id
        ).result()

    def step(self, session: TrainingSession, params: AdamParams = STEP) -> Future:
        return self.engine.submit(lambda room: room.trainer.optim_step(session, params), session=session.session_id)

    def train(self, session: TrainingSession, *, updates: int = 1, seed: int = 0) -> None:
        for update in range(updates):
            self.score(session, datums(9, 20, 4, seed=seed + update))
            self.step(session).result()

    def save(self, session: TrainingSession, name: str, *, optimizer: bool = True) -> Path:
        saved = self.engine.submit(
            lambda room: room.trainer.save(session, name, kind="weights", optimizer=optimizer),
            session=session.session_id,
        ).result()
        return Path(saved.path)

    def load(self, session: TrainingSession, path: Path, *, optimizer: bool = True) -> None:
        self.engine.submit(
            lambda room: room.trainer.load(session, str(path), optimizer=optimizer), session=session.session_id
        ).result()

    def bytes_of(self, session: TrainingSession, name: str) -> bytes:
        """The session's adapter and optimizer, as saved."""
        folder = self.save(session, name)
        return (folder / "adapter.safetensors").read_bytes() + (folder / "optimizer.safetensors").read_bytes()


@pytest.fixture
def make_client(tmp_path: Path, llama: Path) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(model: Path = llama, **options: object) -> Client:
        made.append(Client(tmp_path / str(len(made)), model, **options))
        return made[-1]

    yield make
    for client in made:
        client.engine.close()


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client()


def squared_objective(
    examples: list[Datum], logprobs: list[NDArray[np.float32]]
) -> tuple[float, list[NDArray[np.float32]]]:
    return float(sum((lp**2).sum() for lp in logprobs)), [2 * lp for lp in logprobs]


def test_training_lowers_the_loss(client: Client) -> None:
    session, examples = client.start(), [datum(9, weights=[1.0] * 9)]
    first = client.score(session, examples)
    for _ in range(10):
        client.step(session)
        last = client.score(session, examples)
    assert last.result().metrics["loss:sum"] < 0.5 * first.result().metrics["loss:sum"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_calls_give_the_same_bytes(make_client: Callable[..., Client], dtype: str) -> None:
    digests: set[str] = set()
    for _ in range(2):
        client = make_client(dtype=dtype)
        session = client.start()
        client.train(session, updates=3)
        digests.add(hashlib.sha256(client.bytes_of(session, "end")).hexdigest())
    assert len(digests) == 1


def test_gradients_add_up_over_calls(client: Client) -> None:
    together, apart = client.start(), client.start()
    client.score(together, datums(9, 20, 4))
    for example in datums(9, 20, 4):
        client.score(apart, [example])
    norms = [client.step(session).result().metrics["grad_norm"] for session in (together, apart)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_forward_changes_nothing(client: Client) -> None:
    session = client.start()
    before = client.bytes_of(session, "before")
    client.score(session, datums(9, 20), backward=False)
    assert client.bytes_of(session, "after") == before
    assert client.step(session).result().metrics == {"grad_norm": 0.0}


def test_submitted_calls_take_effect_in_their_order(client: Client) -> None:
    slow, pipelined = client.start(), client.start()
    client.train(slow, updates=3)
    futures = []
    for update in range(3):
        futures += [client.score(pipelined, datums(9, 20, 4, seed=update)), client.step(pipelined)]
    for future in reversed(futures):
        future.result()
    assert client.bytes_of(slow, "slow") == client.bytes_of(pipelined, "pipelined")


def test_sessions_on_one_base_model_do_not_touch_each_other(client: Client) -> None:
    alone, one, two = client.start(), client.start(), client.start(lora_rank=3, seed=2, train_unembed=True)
    client.train(alone, updates=2)
    for update in range(2):
        client.score(one, datums(9, 20, 4, seed=update))
        client.score(two, datums(5, seed=update))
        client.step(two)
        client.step(one)
    assert client.bytes_of(alone, "alone") == client.bytes_of(one, "one")


@pytest.mark.parametrize(
    ("examples", "loss_fn", "error"),
    [
        ([datum(9), datum(9, weights=[1.0])], "cross_entropy", DataError),
        ([datum(9)], "crossentropy", UnsupportedError),
        ([datum(9, weights=[3e38] * 9)], "cross_entropy", DataError),
    ],
)
def test_a_failing_call_fails_alone_and_leaves_the_session_as_it_was(
    client: Client, examples: list[Datum], loss_fn: str, error: type[Exception]
) -> None:
    session, other = client.start(), client.start()
    for each in (session, other):
        client.score(each, datums(9, 4))
    failing = client.score(session, examples, loss_fn=loss_fn)
    with pytest.raises(error):
        failing.result()
    for each in (session, other):
        client.step(each).result()
    assert client.bytes_of(session, "one") == client.bytes_of(other, "other")


def test_a_backward_that_fails_midway_is_rolled_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    session, calls = client.start(), []
    score_positions = micro_batch.score_positions

    def fails_on_the_second_micro_batch(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("no memory left")
        return score_positions(*args, **options)

    monkeypatch.setattr(micro_batch, "score_positions", fails_on_the_second_micro_batch)
    with pytest.raises(MemoryError):
        client.score(session, [datum(20, weights=[1.0] * 20)] * 2).result()
    assert client.step(session).result().metrics == {"grad_norm": 0.0}


def test_a_custom_objective_equals_the_cross_entropy_it_writes(client: Client) -> None:
    examples = datums(9, 20, 4)
    weights = [example.loss_fn_inputs["weights"].data for example in examples]

    def cross_entropy(_: list[Datum], logprobs: list[NDArray[np.float32]]) -> tuple[float, list]:
        return float(sum(-(lp * w).sum() for lp, w in zip(logprobs, weights, strict=True))), [-w for w in weights]

    one, two = client.start(), client.start()
    built_in = client.score(one, examples).result()
    custom = client.custom(two, examples, cross_entropy)
    assert custom.metrics["loss:sum"] == pytest.approx(built_in.metrics["loss:sum"], rel=1e-5)
    norms = [client.step(session).result().metrics["grad_norm"] for session in (one, two)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_a_custom_objective_need_not_be_linear(client: Client) -> None:
    session, examples = client.start(), datums(9, 20)
    first = client.custom(session, examples, squared_objective).metrics["loss:sum"]
    client.step(session, AdamParams(learning_rate=1e-3)).result()
    assert client.custom(session, examples, squared_objective).metrics["loss:sum"] < first


def test_an_objectives_own_error_comes_back_as_it_was_raised(client: Client) -> None:
    class Mine(Exception):
        pass

    def fails(*_: object) -> None:
        raise Mine("a reason")

    session = client.start()
    with pytest.raises(Mine, match="a reason"):
        client.custom(session, datums(9), fails)
    with pytest.raises(ValueError, match=r"not finite for datums \[0\]"):
        client.custom(session, datums(9), lambda *_: (0.0, [np.full(9, np.inf)]))
    with pytest.raises(ValueError, match=r"shapes \[\(3,\)\]; the logprobs have \[\(9,\)\]"):
        client.custom(session, datums(9), lambda *_: (0.0, [np.zeros(3)]))
    assert client.step(session).result().metrics == {"grad_norm": 0.0}


def test_a_loaded_session_continues_to_the_bit(client: Client) -> None:
    session, fresh = client.start(), client.start(seed=7)
    client.train(session)
    client.load(fresh, client.save(session, "half"))
    for each in (session, fresh):
        client.train(each, updates=2, seed=5)
    assert client.bytes_of(session, "one") == client.bytes_of(fresh, "other")


def test_a_checkpoint_says_what_it_belongs_to_and_what_computed_it(client: Client) -> None:
    folder = client.save(client.start(lora_rank=3, user_metadata={"run": "a"}), "one", optimizer=False)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter.safetensors", "checkpoint.json"]
    described = json.loads((folder / "checkpoint.json").read_text())
    assert described["base_model"] == client.model
    assert described["lora"]["lora_rank"] == 3
    assert described["user_metadata"] == {"run": "a"}
    assert (described["dtype"], described["threads"]) == ("float32", 1)
    assert described["versions"]["torch"] in torch.__version__


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "adapter.safetensors").unlink(),
        lambda folder: (folder / "checkpoint.json").unlink(),
        lambda folder: (folder / "checkpoint.json").write_text("{}"),
        lambda folder: (folder / "checkpoint.json").write_text("[1]"),
        lambda folder: (folder / "optimizer.safetensors").write_bytes(b""),
        lambda folder: (folder / "adapter.safetensors").write_bytes(
            (folder / "adapter.safetensors").read_bytes()[:-1] + b"\x01"
        ),
        lambda folder: (folder / "checkpoint.json").write_text(
            (folder / "checkpoint.json").read_text().replace('"format_version": 2', '"format_version": 3')
        ),
    ],
)
def test_a_spoiled_checkpoint_is_refused_and_changes_nothing(client: Client, spoil: Callable[[Path], object]) -> None:
    session = client.start()
    client.train(session)
    folder = client.save(session, "spoiled")
    client.train(session)
    before = client.bytes_of(session, "before")
    spoil(folder)
    with pytest.raises(CheckpointError):
        client.load(session, folder)
    assert client.bytes_of(session, "after") == before


def test_a_save_that_fails_leaves_nothing_behind(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    session = client.start()
    monkeypatch.setattr("crucible.engine.checkpoint.save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        client.save(session, "one")
    assert list((client.folder / "weights").iterdir()) == []


def test_checkpoints_of_other_weights_rank_alpha_or_layers_are_refused(client: Client, tmp_path: Path) -> None:
    saved = client.save(client.start(), "one")
    tiny_models.write("llama", tmp_path / "other", seed=1)
    for config, reason in [
        ({"model": str(tmp_path / "other")}, "another base model"),
        ({"lora_rank": 3}, "does not fit"),
        ({"train_mlp": False}, "does not fit"),
        ({"lora_alpha": 8.0}, "lora_alpha"),
    ]:
        with pytest.raises(CheckpointError, match=reason):
            client.load(client.start(**config), saved)


def test_parameters_that_are_none_of_adamws_are_refused_all_at_once(client: Client) -> None:
    wrong = dataclasses.replace(STEP, learning_rate=np.nan, beta1=1.0, eps=-1.0, weight_decay=np.inf)
    with pytest.raises(ConfigError) as raised:
        client.step(client.start(), wrong).result()
    fields = [problem.where for problem in raised.value.problems]
    assert fields == ["learning_rate", "beta1", "eps", "weight_decay"]


def test_a_negative_clipping_norm_is_none(client: Client) -> None:
    client.step(client.start(), dataclasses.replace(STEP, grad_clip_norm=-1.0)).result()


@pytest.mark.parametrize("wrong", [{"lora_rank": 0}, {"lora_alpha": np.inf}])
def test_a_session_of_no_rank_or_scale_is_refused(client: Client, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        client.start(**wrong)


def test_closing_ends_a_call_before_its_next_micro_batch_and_fails_the_waiting(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, release, run = threading.Event(), threading.Event(), micro_batch.score_positions

    def waits(*args: object, **options: object) -> object:
        started.set()
        release.wait(10)
        return run(*args, **options)

    session = client.start()
    monkeypatch.setattr(micro_batch, "score_positions", waits)
    futures = [client.score(session, datums(20, 20)), client.step(session)]
    started.wait(10)
    closing = threading.Thread(target=client.engine.close)
    closing.start()
    while not client.engine._worker.closing:
        time.sleep(0.001)
    release.set()
    closing.join(10)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result()


def test_one_base_model_is_in_memory_for_all_sessions(client: Client) -> None:
    client.start(), client.start()
    models = client.engine.submit(lambda room: {id(s.loaded) for s in room.trainer._sessions.values()}).result()
    assert len(models) == 1


def test_a_machine_without_the_device_says_so(make_client: Callable[..., Client]) -> None:
    if torch.cuda.is_available():
        return
    with pytest.raises(ManifestError, match="no such device"):
        make_client(device="cuda").start()
