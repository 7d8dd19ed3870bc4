"""What trains when nothing is computed? `FakeTrainingClient`: the port's whole contract over made-up numbers."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crucible.errors import CheckpointError, ForeignCheckpointError, ModelError, PortError
from crucible.ports.datum import Datum, TensorData
from crucible.ports.future import Future
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import (
    AdamParams,
    CustomObjective,
    ForwardBackwardOutput,
    LogprobsWanted,
    OptimStepOutput,
    SavedWeights,
    SessionConfig,
    TrainingCapabilities,
    TrainingClient,
    TrainingSession,
)
from crucible.testing.fakes.call_queue import CallQueue
from crucible.testing.fakes.scores import read_inputs, read_tokens, token_logprobs
from crucible.testing.fakes.tokenizer import FakeTokenizer
from crucible.testing.fakes.weights import FakeWeights, WeightsShelf
from crucible.testing.loss_formulas import FORMULAS, whole_config


@dataclass
class _Adapter:
    """One session's state. gradient: the accumulated loss's derivative by the logprobs' common scale."""

    weights: FakeWeights
    gradient: float = 0.0


class FakeTrainingClient(TrainingClient):
    """Deterministic training without a model: the loss depends on datums and updates alone, and falls.

    checkpoint_dir: where checkpoints go; None keeps them in memory.
    latency: seconds that every call takes, on a worker thread, in submission order.
    shelf: where saved weights are kept, to share them with a sampling fake (then `checkpoint_dir` is its own).

    Every model reference but a blank one exists. An update counts when a gradient is there and the learning
    rate is not zero. Logprobs that were not wanted are NaN, so that a reader of them is found out.
    """

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(
        self, *, checkpoint_dir: Path | None = None, latency: float = 0.0, shelf: WeightsShelf | None = None
    ) -> None:
        self._shelf = shelf or WeightsShelf(checkpoint_dir)
        self._queue = CallQueue(port=self.port_name, latency=latency)
        self._tokenizer = FakeTokenizer()
        self._adapters: dict[str, _Adapter] = {}
        self._numbers = itertools.count(1)

    def capabilities(self) -> TrainingCapabilities:
        return TrainingCapabilities(losses=frozenset(FORMULAS), computes=False)

    def start_session(self, config: SessionConfig) -> Future[TrainingSession]:
        return self._queue.submit(lambda: self._start(config))

    def get_tokenizer(self, session: TrainingSession) -> Tokenizer:  # noqa: ARG002  (one for all)
        return self._tokenizer

    def forward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        return self._queue.submit(
            lambda: self._score(self._adapter(session), datums, loss_fn, loss_fn_config, logprobs)[0]
        )

    def forward_backward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        def call() -> ForwardBackwardOutput:
            adapter = self._adapter(session)
            output, gradient = self._score(adapter, datums, loss_fn, loss_fn_config, logprobs)
            adapter.gradient += gradient
            return output

        return self._queue.submit(call)

    def forward_backward_custom(
        self, session: TrainingSession, datums: Sequence[Datum], objective: CustomObjective
    ) -> Future[ForwardBackwardOutput]:
        return self._queue.submit(lambda: self._custom(self._adapter(session), datums, objective))

    def optim_step(self, session: TrainingSession, params: AdamParams) -> Future[OptimStepOutput]:
        return self._queue.submit(lambda: self._step(self._adapter(session), params))

    def save_checkpoint(
        self, session: TrainingSession, name: str, *, optimizer: bool = True, overwrite: bool = False
    ) -> Future[SavedWeights]:
        def call() -> SavedWeights:
            weights = self._adapter(session).weights
            if optimizer and self._adapter(session).gradient != 0:
                what = "a gradient is accumulated and not yet applied, which a checkpoint would lose"
                raise CheckpointError.of(what, given=name, fix="Save after optim_step")
            kept = weights if optimizer else replace(weights, optimizer_steps=None)
            path = self._shelf.save(kept, kind="weights", name=name, overwrite=overwrite)
            return SavedWeights(path=path, kind="weights", digest=kept.digest, policy_version=kept.policy_version)

        return self._queue.submit(call)

    def load_checkpoint(
        self, session: TrainingSession, path: str, *, optimizer: bool = True, digest: str = ""
    ) -> Future[None]:
        return self._queue.submit(lambda: self._load(self._adapter(session), path, optimizer, digest))

    def delete_checkpoint(self, path: str) -> Future[None]:
        return self._queue.submit(lambda: self._shelf.delete(path))

    def save_weights_for_sampler(
        self, session: TrainingSession, name: str, *, overwrite: bool = False
    ) -> Future[SavedWeights]:
        def call() -> SavedWeights:
            weights = replace(self._adapter(session).weights, optimizer_steps=None)
            path = self._shelf.save(weights, kind="sampler_weights", name=name, overwrite=overwrite)
            return SavedWeights(
                path=path, kind="sampler_weights", digest=weights.digest, policy_version=weights.policy_version
            )

        return self._queue.submit(call)

    def close_session(self, session: TrainingSession) -> Future[None]:
        def call() -> None:
            self._adapters.pop(session.session_id, None)

        return self._queue.submit(call)

    def close(self) -> None:
        self._queue.close()

    def _start(self, config: SessionConfig) -> TrainingSession:
        if not config.model.strip():
            raise ModelError.of("there is no model without a name", given=repr(config.model))
        session = TrainingSession(session_id=f"fake-{next(self._numbers)}", config=config)
        self._adapters[session.session_id] = _Adapter(FakeWeights(model=config.model, lora_rank=config.lora_rank))
        return session

    def _adapter(self, session: TrainingSession) -> _Adapter:
        if session.session_id not in self._adapters:
            raise PortError(
                f"session {session.session_id} is closed or was never open", port=self.port_name, adapter="noop"
            )
        return self._adapters[session.session_id]

    def _score(
        self,
        adapter: _Adapter,
        datums: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float] | None,
        wanted: LogprobsWanted,
    ) -> tuple[ForwardBackwardOutput, float]:
        """The output, and the loss's derivative by the logprobs' common scale."""
        config = whole_config(loss_fn, loss_fn_config)
        outputs: list[Mapping[str, TensorData]] = []
        loss = gradient = 0.0
        for datum in datums:
            tokens, targets = read_tokens(datum, vocab_size=self._tokenizer.vocab_size)
            inputs = read_inputs(datum, loss_fn)
            logprobs = token_logprobs(adapter.weights, tokens, targets)
            elementwise, derivative = FORMULAS[loss_fn](logprobs.astype(np.float64), inputs, config)
            loss += _added(elementwise)
            gradient += _added(derivative * logprobs)
            silent = (elementwise == 0) & (derivative == 0) & (wanted == "weighted")
            outputs.append(
                {
                    "logprobs": TensorData(np.where(silent, np.float32(np.nan), logprobs)),
                    "elementwise_loss": TensorData(elementwise),
                }
            )
        output = ForwardBackwardOutput(loss_fn_output_type="fake", loss_fn_outputs=outputs, metrics={"loss:sum": loss})
        return output, gradient

    def _custom(self, adapter: _Adapter, datums: Sequence[Datum], objective: CustomObjective) -> ForwardBackwardOutput:
        logprobs: list[NDArray[np.float32]] = []
        for datum in datums:
            tokens, targets = read_tokens(datum, vocab_size=self._tokenizer.vocab_size)
            logprobs.append(token_logprobs(adapter.weights, tokens, targets))
        loss, derivatives = objective(datums, logprobs)
        shapes = [np.shape(derivative) for derivative in derivatives]
        if shapes != [values.shape for values in logprobs]:
            raise ValueError(f"the objective's derivative has shapes {shapes}; the logprobs have other ones")
        adapter.gradient += sum(
            float(np.sum(derivative * values)) for derivative, values in zip(derivatives, logprobs, strict=True)
        )
        return ForwardBackwardOutput(
            loss_fn_output_type="fake",
            loss_fn_outputs=[{"logprobs": TensorData(values)} for values in logprobs],
            metrics={"loss:sum": float(loss)},
        )

    def _step(self, adapter: _Adapter, params: AdamParams) -> OptimStepOutput:
        moved = adapter.gradient != 0 and params.learning_rate != 0
        adapter.weights = replace(
            adapter.weights,
            updates=adapter.weights.updates + moved,
            optimizer_steps=(adapter.weights.optimizer_steps or 0) + 1,
            policy_version=adapter.weights.policy_version + 1,
        )
        norm, adapter.gradient = abs(adapter.gradient), 0.0
        return OptimStepOutput(metrics={"grad_norm": norm})

    def _load(self, adapter: _Adapter, path: str, optimizer: bool, digest: str) -> None:
        weights = self._shelf.load(path)
        if digest not in ("", weights.digest):
            raise CheckpointError.of("this checkpoint's content is not what was saved", given=path)
        here = adapter.weights
        if (weights.model, weights.lora_rank) != (here.model, here.lora_rank):
            kind = CheckpointError if weights.model == here.model else ForeignCheckpointError
            raise kind.of(
                f"this checkpoint is of {weights.model} at rank {weights.lora_rank}; "
                f"the session is of {here.model} at rank {here.lora_rank}",
                given=path,
            )
        if optimizer and weights.optimizer_steps is None:
            raise CheckpointError.of("this checkpoint holds no optimizer state", given=path, fix="Load it without")
        adapter.weights = weights if optimizer else replace(weights, optimizer_steps=0)
        adapter.gradient = 0.0


def _added(values: NDArray[np.float64]) -> float:
    """The sum of float32 numbers, which is what a backend gives for each position."""
    return float(np.sum(values.astype(np.float32), dtype=np.float64))
