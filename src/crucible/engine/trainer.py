# pyright: standard
# (hands torch tensors between the engine's parts)
"""What does each of Tinker's verbs do to the sessions in memory?

Synchronous; only the engine's worker thread calls it.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crucible.engine import checkpoint
from crucible.engine.lora import adapter_tensors
from crucible.engine.losses import LOSSES
from crucible.engine.model import adapter_for
from crucible.engine.options import EngineOptions
from crucible.engine.rows import Row, rows_of
from crucible.engine.scoring import Scores, score_rows
from crucible.engine.session import LoraSession
from crucible.engine.shelf import ModelShelf
from crucible.engine.worker import CallersError
from crucible.engine.writer import Writer
from crucible.errors import CheckpointError, ConfigError, Problem, UnsupportedError, did_you_mean
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

    should_stop: asked before every micro-batch; True ends the call with a CancelledError.
    writer: puts checkpoints on the disk while training goes on.
    """

    def __init__(
        self, options: EngineOptions, shelf: ModelShelf, *, should_stop: Callable[[], bool], writer: Writer
    ) -> None:
        self._options, self._shelf, self._should_stop, self._writer = options, shelf, should_stop, writer
        self._sessions: dict[str, LoraSession] = {}
        self._numbers = itertools.count(1)

    def start_session(self, config: SessionConfig) -> TrainingSession:
        """See `TrainingClient.start_session`."""
        if config.lora_rank < 1:
            raise ConfigError.of("is not a whole number of at least 1", where="lora_rank", given=config.lora_rank)
        if not math.isfinite(config.lora_alpha):
            raise ConfigError.of("is not a finite number", where="lora_alpha", given=config.lora_alpha)
        loaded = self._shelf.get(config.model)
        session_id = f"train-{next(self._numbers)}"
        self._sessions[session_id] = LoraSession(config, loaded, adapter_for(loaded, config))
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
    ) -> ForwardBackwardOutput:
        """See `TrainingClient.forward` and `forward_backward`."""
        session = self._session(handle)
        config = _loss_config(loss_fn, loss_fn_config)
        rows = self._rows(session, datums, loss_fn)
        scores = self._score(session, rows, loss_fn, config=config, wanted=logprobs, backward=backward)
        if scores.gradients is not None:
            session.accumulate(scores.gradients)
        outputs = [
            {"logprobs": TensorData(row_logprobs), "elementwise_loss": TensorData(row_losses)}
            for row_logprobs, row_losses in zip(scores.logprobs, scores.losses, strict=True)
        ]
        return ForwardBackwardOutput(
            loss_fn_output_type=loss_fn, loss_fn_outputs=outputs, metrics={"loss:sum": scores.total_loss}
        )

    def forward_backward_custom(
        self, handle: TrainingSession, datums: Sequence[Datum], objective: CustomObjective
    ) -> ForwardBackwardOutput:
        """See `TrainingClient.forward_backward_custom`.

        The loss's derivative by the logprobs, taken as (negative) weights of a cross-entropy, has the same
        gradient: that is the second of two passes.
        """
        session = self._session(handle)
        bare = [Datum(datum.model_input, _targets_only(datum)) for datum in datums]
        rows = self._rows(session, bare, "cross_entropy")
        scores = self._score(session, rows, "cross_entropy", wanted="all", backward=False)
        try:
            total, derivatives = objective(datums, [logprobs.copy() for logprobs in scores.logprobs])
            total, derivatives = float(total), [np.asarray(by, dtype=np.float32) for by in derivatives]
        except Exception as error:
            raise CallersError(error) from error
        _check_derivatives(derivatives, rows)
        weighted = [_with_weights(datum, -by) for datum, by in zip(bare, derivatives, strict=True)]
        again = self._rows(session, weighted, "cross_entropy")
        gradients = self._score(session, again, "cross_entropy", wanted="weighted", backward=True).gradients
        assert gradients is not None
        session.accumulate(gradients)
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
    ) -> "Future[SavedWeights]":
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
        self._writer.wait()  # before the copy: two would cost memory
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

    def delete(self, path: str) -> None:
        """See `TrainingClient.delete_checkpoint`."""
        self._writer.wait()
        checkpoint.delete(Path(path))

    def load(self, handle: TrainingSession, path: str, *, optimizer: bool, digest: str = "") -> None:
        """See `TrainingClient.load_checkpoint`."""
        session = self._session(handle)
        self._writer.wait()
        saved = checkpoint.read(Path(path), optimizer=optimizer, digest=digest)
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
        session: LoraSession,
        rows: Sequence[Row],
        loss_fn: str,
        *,
        config: Mapping[str, float] | None = None,
        wanted: LogprobsWanted,
        backward: bool,
    ) -> Scores:
        return score_rows(
            session.loaded,
            session.adapter,
            rows,
            loss=LOSSES[loss_fn],
            config=config or {},
            wanted=wanted,
            backward=backward,
            token_budget=self._options.token_budget,
            should_stop=self._should_stop,
        )


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _loss_config(loss_fn: str, given: Mapping[str, float] | None) -> dict[str, float]:
    if loss_fn not in LOSSES:
        raise UnsupportedError.of("this engine has no such loss", given=loss_fn, fix=did_you_mean(loss_fn, LOSSES))
    known, asked = LOSSES[loss_fn].config, dict(given or {})
    if unknown := sorted(asked.keys() - known.keys()):
        raise UnsupportedError(
            [Problem(what=f"{loss_fn} has no such setting", given=key, fix=did_you_mean(key, known)) for key in unknown]
        )
    return {**known, **asked}


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
