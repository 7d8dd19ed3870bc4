"""What does each of the port's verbs do to one training session at the service?

Only the session's line calls it, one call after the other.
"""

import concurrent.futures
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import tinker
from numpy.typing import NDArray
from tinker import types

from crucible.adapters.tinker.checkpoints import UNKNOWN, Kind, Known, Shelf, run_of
from crucible.adapters.tinker.conversion import from_scores, from_step, to_adam, to_datum, with_weights
from crucible.adapters.tinker.failures import Edge
from crucible.adapters.tinker.futures import Sent, concurrent_of, settled
from crucible.adapters.tinker.service import Service
from crucible.errors import CheckpointError, ForeignCheckpointError, ModelError
from crucible.ports.datum import Datum, TensorData
from crucible.ports.training_client import (
    AdamParams,
    CustomObjective,
    ForwardBackwardOutput,
    OptimStepOutput,
    SavedWeights,
    SessionConfig,
)


class Progress:
    """What one adapter has gone through: its optimizer steps, and whether a gradient waits for the next.

    version: steps that it had taken before; UNKNOWN if nobody knows.
    """

    def __init__(self, version: int) -> None:
        self._version, self._pending = version, False
        self._sent: deque[tuple[bool, concurrent.futures.Future[Any]]] = deque()

    def sent(self, source: "concurrent.futures.Future[Any]", *, step: bool) -> None:
        """Note a gradient, or a step, that is on its way."""
        self._fold()
        self._sent.append((step, source))

    @property
    def version(self) -> int:
        """Steps taken, with those on their way."""
        self._fold()
        return UNKNOWN if self._version == UNKNOWN else self._version + sum(step for step, _ in self._sent)

    def pending(self) -> bool:
        """Whether a gradient is accumulated that no step was sent to apply; waits for one that may yet fail."""
        if self._sent and not self._sent[-1][0]:
            concurrent.futures.wait([source for _, source in self._sent])
        self._fold()
        return self._pending if not self._sent else False

    def _fold(self) -> None:
        while self._sent and self._sent[0][1].done():
            step, source = self._sent.popleft()
            if _failed(source):
                continue  # a failed call leaves the session as it was
            self._pending = not step
            if step and self._version != UNKNOWN:
                self._version += 1


class RemoteSession:
    """One adapter in training at the service. `load` puts another in its place, for the service loads weights only
    where it makes an adapter: what was sent before goes to the one before, what is sent after to the new one.

    discard: asks for a checkpoint's deletion and waits for nothing.
    """

    def __init__(
        self,
        session_id: str,
        config: SessionConfig,
        *,
        service: Service,
        shelf: Shelf,
        edge: Edge,
        discard: Callable[[str], object],
    ) -> None:
        self.session_id, self.config = session_id, config
        self._service, self._shelf, self._edge = service, shelf, edge
        self._discard = discard
        self._client: tinker.TrainingClient | None = None
        self._progress = Progress(0)
        self._closed = False

    @property
    def tokenizer_id(self) -> str | None:
        """Which tokenizer the service names for the model."""
        return None if self._client is None else self._client.get_info().model_data.tokenizer_id

    def start(self) -> None:
        """Make the adapter, and wait for it."""
        config, edge = self.config, self._edge.of(ModelError, repeatable=True)
        with edge.answered():
            made = self._service.client.create_lora_training_client(
                base_model=config.model,
                rank=config.lora_rank,
                seed=config.seed,
                train_mlp=config.train_mlp,
                train_attn=config.train_attn,
                train_unembed=config.train_unembed,
                user_metadata=dict(config.user_metadata),
            )
            self._client = settled(made, tinker.TrainingClient)

    def score(
        self, datums: Sequence[Datum], *, loss_fn: str, config: Mapping[str, float], backward: bool
    ) -> Sent[ForwardBackwardOutput]:
        """Send forward or forward_backward."""
        whole = [with_weights(datum) for datum in datums] if loss_fn == "cross_entropy" else list(datums)
        edge = self._edge.of(repeatable=not backward)
        source = self._scored(whole, loss_fn=loss_fn, config=config, backward=backward, edge=edge)
        return Sent(source=source, convert=from_scores, edge=edge)

    def score_custom(self, datums: Sequence[Datum], objective: CustomObjective) -> Sent[ForwardBackwardOutput]:
        """Forward, the objective, and the gradient of a cross-entropy whose weights are minus its derivative."""
        bare = [Datum(datum.model_input, _targets(datum)) for datum in datums]
        edge = self._edge.of(repeatable=True)
        nothing = [with_weights(datum, np.zeros(_shape(datum), dtype=np.float32)) for datum in bare]
        forward = self._scored(nothing, loss_fn="cross_entropy", config={}, backward=False, edge=edge)
        with edge.answered():
            scores = from_scores(forward.result())
        logprobs = [np.asarray(record["logprobs"].data, dtype=np.float32) for record in scores.loss_fn_outputs]
        loss, derivatives = objective(datums, [each.copy() for each in logprobs])
        total, weights = float(loss), [-np.asarray(by, dtype=np.float32) for by in derivatives]
        _check_derivatives(weights, logprobs)
        weighted = [with_weights(datum, weight) for datum, weight in zip(bare, weights, strict=True)]
        edge = self._edge.of(repeatable=False)
        source = self._scored(weighted, loss_fn="cross_entropy", config={}, backward=True, edge=edge)

        def convert(_: Any) -> ForwardBackwardOutput:
            return ForwardBackwardOutput(
                loss_fn_output_type="custom",
                loss_fn_outputs=[{"logprobs": TensorData(each)} for each in logprobs],
                metrics={"loss:sum": total},
            )

        return Sent(source=source, convert=convert, edge=edge)

    def step(self, params: AdamParams) -> Sent[OptimStepOutput]:
        """Send optim_step."""
        with self._edge.sending():
            source = concurrent_of(self._open.optim_step(to_adam(params)))
        self._progress.sent(source, step=True)
        return Sent(source=source, convert=from_step, edge=self._edge)

    def save(
        self, name: str, *, kind: Kind, optimizer: bool = False, overwrite: bool, ttl_seconds: int | None = None
    ) -> Sent[SavedWeights]:
        """Send save_state or save_weights_for_sampler."""
        client = self._open
        place = self._shelf.reserve(self.session_id, kind, name, overwrite=overwrite)
        known = Known(policy_version=self._progress.version, optimizer=optimizer or kind == "sampler_weights")
        edge = self._edge.of(CheckpointError)
        try:
            if optimizer and self._progress.pending():
                raise CheckpointError.of(
                    "a gradient is accumulated and not yet applied, which a checkpoint would lose",
                    given=name,
                    fix="Save after optim_step",
                )
            with edge.sending():
                if kind == "weights":
                    made = client.save_state(place.told, ttl_seconds=ttl_seconds, user_metadata=known.metadata())
                else:
                    made = client.save_weights_for_sampler(place.told, user_metadata=known.metadata())
                saving = concurrent_of(made)
        except BaseException:
            self._shelf.failed(place)
            raise
        saving.add_done_callback(lambda done: self._shelf.failed(place) if _failed(done) else None)

        def convert(response: Any) -> SavedWeights:
            path = str(response.path)
            if needless := self._shelf.saved(place, path, known):
                self._discard(needless)
            return SavedWeights(path=path, kind=kind, digest=path, policy_version=known.policy_version)

        return Sent(source=saving, convert=convert, edge=edge)

    def load(self, path: str, *, optimizer: bool, digest: str) -> None:
        """Make another adapter from a checkpoint, wait for it, and let it take this one's place."""
        self._open  # noqa: B018  (a closed session is refused before anything is asked)
        run = run_of(path)
        if digest not in ("", path):
            raise CheckpointError.of("the checkpoint is not the one that was saved: its path is another", given=path)
        edge = self._edge.of(CheckpointError, repeatable=True)
        with edge.answered():
            self._require_fit(concurrent_of(self._service.rest.get_weights_info_by_tinker_path(path)).result(), path)
            known = self._shelf.known(path) or known_at(self._service, run, path)
            if optimizer and not known.optimizer:
                raise CheckpointError.of("the checkpoint has no optimizer state", given=path)
            service = self._service.client
            make: Callable[..., object] = (
                service.create_training_client_from_state_with_optimizer
                if optimizer
                else service.create_training_client_from_state
            )
            made = make(path, user_metadata=dict(self.config.user_metadata))
            self._client = settled(made, tinker.TrainingClient)
        self._progress = Progress(known.policy_version)

    def close(self) -> None:
        """Take no more work. The service frees an adapter when its client's session ends."""
        self._client, self._closed = None, True

    @property
    def _open(self) -> tinker.TrainingClient:
        if self._closed:
            raise ValueError(f"there is no open training session {self.session_id!r}")
        assert self._client is not None, "a session is handed out when it was started"
        return self._client

    def _scored(
        self, datums: Sequence[Datum], *, loss_fn: str, config: Mapping[str, float], backward: bool, edge: Edge
    ) -> "concurrent.futures.Future[Any]":
        client = self._open
        with edge.sending():
            send = client.forward_backward if backward else client.forward
            name = cast("types.LossFnType", loss_fn)  # the client has checked it
            source = concurrent_of(send([to_datum(datum) for datum in datums], name, dict(config) or None))
        if backward:
            self._progress.sent(source, step=False)
        return source

    def _require_fit(self, info: types.WeightsInfoResponse, path: str) -> None:
        """Raise unless the checkpoint is of this base model, rank and layers."""
        config, here = self.config, self._open.get_info()
        if info.base_model not in (config.model, here.model_name, here.model_data.model_name):
            raise ForeignCheckpointError.of(
                f"the checkpoint belongs to another base model ({info.base_model})", given=config.model
            )
        own = {
            "lora_rank": config.lora_rank,
            "train_attn": config.train_attn,
            "train_mlp": config.train_mlp,
            "train_unembed": config.train_unembed,
        }
        for name, value in own.items():
            if (saved := getattr(info, name, None)) is not None and saved != value:
                raise CheckpointError.of(f"the checkpoint's {name} is {saved}, the session's {value}", given=path)


def known_at(service: Service, run: str, path: str) -> Known:
    """What the service keeps of a checkpoint as its metadata; waits for it."""
    listed = concurrent_of(service.rest.list_checkpoints(run)).result()
    found = next((each for each in listed.checkpoints if each.tinker_path == path), None)
    return Known.of(None if found is None else found.user_metadata)


def _failed(source: "concurrent.futures.Future[Any]") -> bool:
    return source.cancelled() or source.exception() is not None


def _targets(datum: Datum) -> dict[str, TensorData]:
    return {name: data for name, data in datum.loss_fn_inputs.items() if name == "target_tokens"}


def _shape(datum: Datum) -> tuple[int, ...]:
    targets = datum.loss_fn_inputs.get("target_tokens")
    return (0,) if targets is None else targets.shape


def _check_derivatives(derivatives: Sequence[NDArray[np.float32]], logprobs: Sequence[NDArray[np.float32]]) -> None:
    """Raise ValueError unless an objective's derivatives have the logprobs' shapes and are finite."""
    shapes, expected = [by.shape for by in derivatives], [each.shape for each in logprobs]
    if shapes != expected:
        raise ValueError(f"the objective's derivative has shapes {shapes}; the logprobs have {expected}")
    if wrong := [index for index, by in enumerate(derivatives) if not np.isfinite(by).all()]:
        raise ValueError(f"the objective's derivative is not finite for datums {wrong}")
