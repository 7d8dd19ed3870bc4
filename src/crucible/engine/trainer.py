# pyright: standard
# (hands torch tensors between the engine's parts)
"""What does each of Tinker's verbs do to the sessions in memory?

Only the engine's thread calls it. A verb that takes long comes in steps (`worker.Steps`), between which other sessions'
run: nothing of a session changes before its last step.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crucible.engine import checkpoint
from crucible.engine.aside import Aside, beside
from crucible.engine.lora import adapter_tensors
from crucible.engine.losses import LOSSES, loss_config
from crucible.engine.memory import TRAINING_COPIES, MemoryLedger
from crucible.engine.mixing import Mixer, can_mix
from crucible.engine.model import adapter_for, adapter_parameters
from crucible.engine.options import EngineOptions
from crucible.engine.rows import Row, rows_of
from crucible.engine.scoring import Scores, scoring_steps
from crucible.engine.session import LoraSession
from crucible.engine.shared_turns import SharedTurns
from crucible.engine.shelf import ModelShelf
from crucible.engine.worker import CallersError, Steps, awaited
from crucible.engine.writer import Writer
from crucible.errors import CheckpointError, ConfigError, Problem
from crucible.ports.datum import Datum, TensorData
from crucible.ports.training_client import (
    AdamParams,
    CustomObjective,
    ForwardBackwardOutput,
    LogprobsWanted,
    OptimStepOutput,
    SavedWeights,
    SessionConfig,
    TrainingSession,
)


class Trainer:
    """LoRA sessions in training.

    writer: puts checkpoints on the disk while training goes on.
    memory: where the sessions' adapters, gradients and moments are counted.
    aside: where checkpoints are read and deleted.
    mixer, mixed: where `EngineOptions.mix_adapters` sends what is to be scored, and the turns it is done in.
    """

    def __init__(
        self,
        options: EngineOptions,
        shelf: ModelShelf,
        *,
        writer: Writer,
        memory: MemoryLedger,
        aside: Aside,
        mixer: Mixer,
        mixed: SharedTurns,
    ) -> None:
        self._options, self._shelf, self._writer, self._memory = options, shelf, writer, memory
        self._aside, self._mixer, self._mixed = aside, mixer, mixed
        self._sessions: dict[str, LoraSession] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Sessions open."""
        return len(self._sessions)

    def start_session(self, config: SessionConfig) -> Steps[TrainingSession]:
        """See `TrainingClient.start_session`.

        Raises:
            PortError: if there is no memory for it.
        """
        if config.lora_rank < 1:
            raise ConfigError.of("is not a whole number of at least 1", where="lora_rank", given=config.lora_rank)
        if not math.isfinite(config.lora_alpha):
            raise ConfigError.of("is not a finite number", where="lora_alpha", given=config.lora_alpha)
        loaded = yield from self._shelf.load(config.model)
        size = 4 * TRAINING_COPIES * adapter_parameters(loaded, config)
        with self._memory.room_for(size, what=f"a training session of rank {config.lora_rank}") as held_by:
            session = held_by(LoraSession(config, loaded, adapter_for(loaded, config)))
        session_id = f"train-{next(self._numbers)}"
        self._sessions[session_id] = session
        return TrainingSession(session_id=session_id, config=config)

    def forward(
        self,
        handle: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str,
        loss_fn_config: Mapping[str, float] | None,
        logprobs: LogprobsWanted,
        backward: bool,
    ) -> Steps[ForwardBackwardOutput]:
        """See `TrainingClient.forward` and `forward_backward`."""
        session = self._session(handle)
        config = loss_config(loss_fn, loss_fn_config)
        rows = self._rows(session, datums, loss_fn)
        scores = yield from self._score(handle, rows, loss_fn, config=config, wanted=logprobs, backward=backward)
        if scores.gradients is not None:
            session.accumulate(scores.gradients)
        outputs = [
            {"logprobs": TensorData(row_logprobs), "elementwise_loss": TensorData(row_losses)}
            for row_logprobs, row_losses in zip(scores.logprobs, scores.losses, strict=True)
        ]
        return ForwardBackwardOutput(loss_fn_output_type=loss_fn, loss_fn_outputs=outputs, metrics=scores.metrics)

    def forward_backward_custom(
        self, handle: TrainingSession, datums: Sequence[Datum], objective: CustomObjective
    ) -> Steps[ForwardBackwardOutput]:
        """See `TrainingClient.forward_backward_custom`.

        The loss's derivative by the logprobs, taken as (negative) weights of a cross-entropy, has the same
        gradient: that is the second of two passes. The objective runs in a thread of its own: whatever it does, other
        sessions go on.
        """
        session = self._session(handle)
        bare = [Datum(datum.model_input, _targets_only(datum)) for datum in datums]
        rows = self._rows(session, bare, "cross_entropy")
        scores = yield from self._score(handle, rows, "cross_entropy", wanted="all", backward=False)
        copies = [logprobs.copy() for logprobs in scores.logprobs]
        asked = beside(lambda: _called(objective, datums, copies), name="crucible-objective")
        total, derivatives = yield from awaited(asked)
        _check_derivatives(derivatives, rows)
        weighted = [_with_weights(datum, -by) for datum, by in zip(bare, derivatives, strict=True)]
        again = self._rows(session, weighted, "cross_entropy")
        second = yield from self._score(handle, again, "cross_entropy", wanted="weighted", backward=True)
        assert second.gradients is not None
        session.accumulate(second.gradients)
        return ForwardBackwardOutput(
            loss_fn_output_type="custom",
            loss_fn_outputs=[{"logprobs": TensorData(logprobs)} for logprobs in scores.logprobs],
            metrics={"loss:sum": total},
        )

    def optim_step(self, handle: TrainingSession, params: AdamParams) -> OptimStepOutput:
        """See `TrainingClient.optim_step`."""
        _check_params(params)
        return OptimStepOutput(metrics={"grad_norm": self._session(handle).step(params)})

    def save(
        self, handle: TrainingSession, name: str, *, kind: checkpoint.Kind, optimizer: bool, overwrite: bool = False
    ) -> "Steps[Future[SavedWeights]]":
        """See `TrainingClient.save_checkpoint` and `save_weights_for_sampler`. A copy is taken before it returns."""
        session = self._session(handle)
        if not name or name.startswith(".") or Path(name).name != name:
            raise CheckpointError.of("a checkpoint's name is a plain file name", given=name)
        if optimizer and session.pending:
            raise CheckpointError.of(
                "a gradient is accumulated and not yet applied, which a checkpoint would lose",
                given=name,
                fix="Save after optim_step",
            )
        folder, version = self._options.checkpoint_dir / kind / name, session.policy_version
        yield from self._writer.idle()  # before the copy: two would cost memory
        adapter = _copied(adapter_tensors(session.adapter))
        moments = _copied(session.optimizer_tensors()) if optimizer else None

        def write() -> SavedWeights:
            digest = checkpoint.save(
                folder,
                config=session.config,
                fingerprint=session.loaded.fingerprint,
                dtype=self._options.dtype,
                device=str(session.loaded.device),
                adapter=adapter,
                optimizer=moments,
                policy_version=version,
                overwrite=overwrite,
            )
            return SavedWeights(path=str(folder), kind=kind, digest=digest, policy_version=version)

        return self._writer.submit(write)

    def delete(self, path: str) -> Steps[None]:
        """See `TrainingClient.delete_checkpoint`."""
        yield from awaited(self._aside.run(lambda: checkpoint.delete(Path(path)), name="crucible-deleter"))

    def load(self, handle: TrainingSession, path: str, *, optimizer: bool, digest: str = "") -> Steps[None]:
        """See `TrainingClient.load_checkpoint`."""
        session = self._session(handle)
        reading = self._aside.run(
            lambda: checkpoint.read(Path(path), optimizer=optimizer, digest=digest), name="crucible-reader"
        )
        saved = yield from awaited(reading)
        checkpoint.require_model(saved, session.loaded.fingerprint, given=session.config.model)
        if saved.lora["lora_alpha"] != session.config.lora_alpha:
            raise CheckpointError.of(
                f"the checkpoint's lora_alpha is {saved.lora['lora_alpha']}, the session's {session.config.lora_alpha}"
            )
        session.restore(saved.adapter, saved.optimizer, policy_version=saved.policy_version)

    def close_session(self, handle: TrainingSession) -> None:
        """See `TrainingClient.close_session`."""
        self._sessions.pop(handle.session_id, None)

    def _session(self, handle: TrainingSession) -> LoraSession:
        if handle.session_id not in self._sessions:
            raise ValueError(f"there is no open training session {handle.session_id!r}")
        return self._sessions[handle.session_id]

    def _rows(self, session: LoraSession, datums: Sequence[Datum], loss_fn: str) -> list[Row]:
        loaded = session.loaded
        return rows_of(datums, LOSSES[loss_fn], vocab_size=loaded.vocab_size, context_length=loaded.context_length)

    def _score(
        self,
        handle: TrainingSession,
        rows: Sequence[Row],
        loss_fn: str,
        *,
        config: Mapping[str, float] | None = None,
        wanted: LogprobsWanted,
        backward: bool,
    ) -> Steps[Scores]:
        session, loss = self._session(handle), LOSSES[loss_fn]
        loaded, adapter, given = session.loaded, session.adapter, config or {}
        if self._options.mix_adapters and can_mix(loaded):
            asked = self._mixer.submit(loaded, adapter, rows, loss=loss, config=given, wanted=wanted, backward=backward)
            return awaited(self._mixed.take(handle.session_id, asked))
        return scoring_steps(
            loaded,
            adapter,
            rows,
            loss=loss,
            config=given,
            wanted=wanted,
            backward=backward,
            token_budget=self._options.token_budget,
        )


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _called(
    objective: CustomObjective, datums: Sequence[Datum], logprobs: Sequence[NDArray[np.float32]]
) -> tuple[float, list[NDArray[np.float32]]]:
    try:
        total, derivatives = objective(datums, logprobs)
        return float(total), [np.asarray(by, dtype=np.float32) for by in derivatives]
    except BaseException as error:
        raise CallersError(error) from error


def _targets_only(datum: Datum) -> dict[str, TensorData]:
    return {name: data for name, data in datum.loss_fn_inputs.items() if name == "target_tokens"}


def _with_weights(datum: Datum, weights: NDArray[np.float32]) -> Datum:
    return Datum(datum.model_input, {**datum.loss_fn_inputs, "weights": TensorData(weights)})


def _check_derivatives(derivatives: Sequence[NDArray[np.float32]], rows: Sequence[Row]) -> None:
    """Raise ValueError unless an objective's derivatives have the logprobs' shapes and are finite."""
    shapes, expected = [by.shape for by in derivatives], [row.targets.shape for row in rows]
    if shapes != expected:
        raise ValueError(f"the objective's derivative has shapes {shapes}; the logprobs have {expected}")
    wrong = [index for index, by in enumerate(derivatives) if not np.isfinite(by).all()]
    if wrong:
        raise ValueError(f"the objective's derivative is not finite for datums {wrong}")


def _check_params(params: AdamParams) -> None:
    """Raise ConfigError, naming every field, unless these are the parameters of an AdamW step."""
    below = {"beta1": 1.0, "beta2": 1.0}
    lowest = {"grad_clip_norm": -math.inf}  # as on Tinker's service, a negative limit is none
    wrong = [
        Problem(what="is out of range for an AdamW step", where=name, given=repr(value))
        for name, value in asdict(params).items()
        if not (lowest.get(name, 0.0) <= value < below.get(name, math.inf))
    ]
    if wrong:
        raise ConfigError(wrong)
