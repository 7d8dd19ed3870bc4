"""How is the training port kept by the embedded engine?"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

from crucible.engine.engine import Engine
from crucible.engine.losses import LOSSES
from crucible.ports.datum import Datum
from crucible.ports.future import Future
from crucible.ports.model_facts import ModelFacts
from crucible.ports.tokenizer import Tokenizer, TokenizerStore
from crucible.ports.training_client import (
    AdamParams,
    CustomObjective,
    Estimate,
    ForwardBackwardOutput,
    LogprobsWanted,
    OptimStepOutput,
    SavedWeights,
    SessionConfig,
    TrainingCapabilities,
    TrainingClient,
    TrainingSession,
    Workload,
)

CheckpointKind: TypeAlias = Literal["weights", "sampler_weights"]


class TorchTrainingClient(TrainingClient):
    """LoRA sessions on the embedded engine. Made by `TorchBackend`.

    on_close: told this client's port name when it is closed.
    """

    adapter_name: ClassVar[str] = "torch"

    def __init__(self, engine: Engine, *, tokenizers: TokenizerStore, on_close: Callable[[str], None]) -> None:
        self._engine, self._tokenizers, self._on_close = engine, tokenizers, on_close

    def capabilities(self) -> TrainingCapabilities:
        return TrainingCapabilities(losses=frozenset(LOSSES))

    def environment(self) -> Mapping[str, str]:
        return self._engine.submit(lambda room: room.environment()).result()

    def estimate(self, config: SessionConfig, workload: Workload) -> Estimate:
        return self._engine.estimate(config, workload)

    def model_facts(self, model: str) -> ModelFacts | None:
        return self._engine.model_facts(model)

    def start_session(self, config: SessionConfig) -> Future[TrainingSession]:
        return self._engine.submit(lambda room: room.trainer.start_session(config))

    def get_tokenizer(self, session: TrainingSession) -> Tokenizer:
        return self._tokenizers.load(session.model)

    def forward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        return self._score(session, datums, loss_fn, loss_fn_config, logprobs, backward=False)

    def forward_backward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        return self._score(session, datums, loss_fn, loss_fn_config, logprobs, backward=True)

    def forward_backward_custom(
        self, session: TrainingSession, datums: Sequence[Datum], objective: CustomObjective
    ) -> Future[ForwardBackwardOutput]:
        kept = tuple(datums)
        return self._engine.submit(
            lambda room: room.trainer.forward_backward_custom(session, kept, objective), session=session.session_id
        )

    def optim_step(self, session: TrainingSession, params: AdamParams) -> Future[OptimStepOutput]:
        return self._engine.submit(lambda room: room.trainer.optim_step(session, params), session=session.session_id)

    def save_checkpoint(
        self, session: TrainingSession, name: str, *, optimizer: bool = True, overwrite: bool = False
    ) -> Future[SavedWeights]:
        return self._save(session, name, kind="weights", optimizer=optimizer, overwrite=overwrite)

    def load_checkpoint(
        self, session: TrainingSession, path: str, *, optimizer: bool = True, digest: str = ""
    ) -> Future[None]:
        return self._engine.submit(
            lambda room: room.trainer.load(session, path, optimizer=optimizer, digest=digest),
            session=session.session_id,
            paths=(path,),
        )

    def delete_checkpoint(self, path: str) -> Future[None]:
        return self._engine.submit(lambda room: room.trainer.delete(path), paths=(path,))

    def save_weights_for_sampler(
        self, session: TrainingSession, name: str, *, overwrite: bool = False
    ) -> Future[SavedWeights]:
        return self._save(session, name, kind="sampler_weights", optimizer=False, overwrite=overwrite)

    def close_session(self, session: TrainingSession) -> Future[None]:
        return self._engine.submit(lambda room: room.trainer.close_session(session), session=session.session_id)

    def statistics(self) -> Mapping[str, float]:
        """Of the whole engine: both clients of a backend give the same."""
        return self._engine.statistics()

    def close(self) -> None:
        """Tell the backend; its engine ends when its other client is closed too."""
        self._on_close(self.port_name)

    def _save(
        self, session: TrainingSession, name: str, *, kind: CheckpointKind, optimizer: bool, overwrite: bool
    ) -> Future[SavedWeights]:
        return self._engine.submit(
            lambda room: room.trainer.save(session, name, kind=kind, optimizer=optimizer, overwrite=overwrite),
            session=session.session_id,
            paths=(self._engine.checkpoint_path(kind, name),),
        )

    def _score(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float] | None,
        logprobs: LogprobsWanted,
        *,
        backward: bool,
    ) -> Future[ForwardBackwardOutput]:
        kept, config = tuple(datums), dict(loss_fn_config or {})
        return self._engine.submit(
            lambda room: room.trainer.forward(
                session, kept, loss_fn=loss_fn, loss_fn_config=config, logprobs=logprobs, backward=backward
            ),
            session=session.session_id,
        )
