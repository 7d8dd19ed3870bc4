"""How is the training port kept by a Tinker service?"""

import importlib.metadata
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from crucible.adapters.tinker.checkpoints import Shelf, run_of
from crucible.adapters.tinker.failures import Edge
from crucible.adapters.tinker.futures import Sent, concurrent_of
from crucible.adapters.tinker.line import Line
from crucible.adapters.tinker.options import ONLY_ALPHA
from crucible.adapters.tinker.service import Service
from crucible.engine.facts import model_facts
from crucible.errors import (
    CheckpointError,
    ConfigError,
    MissingExtraError,
    ModelError,
    PortError,
    Problem,
    UnsupportedError,
    did_you_mean,
)
from crucible.ports.datum import Datum
from crucible.ports.future import Future
from crucible.ports.model_facts import ModelFacts
from crucible.ports.tokenizer import Tokenizer, TokenizerStore
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

if TYPE_CHECKING:
    from crucible.adapters.tinker.session import RemoteSession

T = TypeVar("T")


class TinkerTrainingClient(TrainingClient):
    """LoRA sessions at a Tinker service. Made by `TinkerBackend`.

    A lost connection is waited out by the SDK; a request that it may have carried out is not repeatable.

    on_close: told this client's port name when it is closed.
    """

    adapter_name: ClassVar[str] = "tinker"

    def __init__(
        self,
        service: Service,
        *,
        shelf: Shelf,
        tokenizers: TokenizerStore,
        resolve_model: Callable[[str], Path] | None,
        on_close: Callable[[str], None],
    ) -> None:
        self._service, self._shelf, self._tokenizers, self._on_close = service, shelf, tokenizers, on_close
        self._resolve_model = resolve_model
        self._edge = Edge(port=self.port_name, secret=service.options.api_key)
        self._numbers = itertools.count(1)
        self._sessions: dict[str, tuple[Line, RemoteSession]] = {}
        self._chores = self._line("crucible-tinker-chores")

    def capabilities(self) -> TrainingCapabilities:
        """The losses are those of the SDK's type, whatever the service takes of them; `custom` is
        `forward_backward_custom` here. Images are passed on, whatever the model takes of them."""
        from tinker import types

        losses = frozenset(str(name) for name in get_args(types.LossFnType)) - {"custom"}
        return TrainingCapabilities(
            losses=losses, exact=self._service.options.exact, images=True, lora_alpha=ONLY_ALPHA
        )

    def environment(self) -> Mapping[str, str]:
        return {
            "tinker": importlib.metadata.version("tinker"),
            "service": self._service.options.base_url or "the SDK's own",
        }

    def model_facts(self, model: str) -> ModelFacts | None:
        """What the model's configuration on this machine says; None where it has none."""
        if self._resolve_model is None:
            return None
        try:
            return model_facts(self._resolve_model(model))
        except (ModelError, MissingExtraError, PortError):
            return None

    def start_session(self, config: SessionConfig) -> Future[TrainingSession]:
        """See the port. The protocol has no lora_alpha: any but 32 is refused."""
        if problems := _config_problems(config):
            return Future.of(lambda: _raise(problems))
        if config.lora_alpha != ONLY_ALPHA:
            refused = UnsupportedError.of(
                f"the Tinker protocol has no lora_alpha, the service's is {ONLY_ALPHA:g}",
                where="lora_alpha",
                given=config.lora_alpha,
                fix=f"Leave it at {ONLY_ALPHA:g}",
            )
            return Future.of(lambda: _raise(refused))
        session_id = f"tinker-{next(self._numbers)}"
        line = self._line(f"crucible-{session_id}")

        def start() -> TrainingSession:
            from crucible.adapters.tinker.session import RemoteSession

            remote = RemoteSession(
                session_id,
                config,
                service=self._service,
                shelf=self._shelf,
                edge=self._edge,
                discard=self.delete_checkpoint,
            )
            try:
                remote.start()
            except BaseException:
                line.close()
                raise
            self._sessions[session_id] = (line, remote)
            return TrainingSession(session_id=session_id, config=config)

        return line.submit(start)

    def get_tokenizer(self, session: TrainingSession) -> Tokenizer:
        """By the model's own name; where that is not known here, by the tokenizer that the service names."""
        try:
            return self._tokenizers.load(session.model)
        except ModelError:
            _, remote = self._sessions.get(session.session_id, (None, None))
            if remote is None or not remote.tokenizer_id:
                raise
            return self._tokenizers.load(remote.tokenizer_id)

    def forward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        del logprobs  # the service gives all
        return self._score(session, datums, loss_fn, loss_fn_config, backward=False)

    def forward_backward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        del logprobs
        return self._score(session, datums, loss_fn, loss_fn_config, backward=True)

    def forward_backward_custom(
        self, session: TrainingSession, datums: Sequence[Datum], objective: CustomObjective
    ) -> Future[ForwardBackwardOutput]:
        """See the port. The objective is called in this client's own thread, which later calls of the session wait
        for."""
        kept = tuple(datums)
        return self._submit(session, lambda remote: remote.score_custom(kept, objective))

    def optim_step(self, session: TrainingSession, params: AdamParams) -> Future[OptimStepOutput]:
        return self._submit(session, lambda remote: remote.step(params))

    def save_checkpoint(
        self, session: TrainingSession, name: str, *, optimizer: bool = True, overwrite: bool = False
    ) -> Future[SavedWeights]:
        """See the port. A name that is saved again gets a path of its own; the one before is deleted then."""
        ttl = self._service.options.ttl_seconds
        return self._submit(
            session,
            lambda remote: remote.save(name, kind="weights", optimizer=optimizer, overwrite=overwrite, ttl_seconds=ttl),
        )

    def load_checkpoint(
        self, session: TrainingSession, path: str, *, optimizer: bool = True, digest: str = ""
    ) -> Future[None]:
        """See the port. The service makes a new training run of the checkpoint, which takes the session over."""
        return self._submit(session, lambda remote: remote.load(path, optimizer=optimizer, digest=digest))

    def delete_checkpoint(self, path: str) -> Future[None]:
        def delete() -> None:
            try:
                run_of(path)
                with self._edge.of(CheckpointError, repeatable=True).answered():
                    concurrent_of(self._service.rest.delete_checkpoint_from_tinker_path(path)).result()
            except CheckpointError:
                pass  # it is gone
            self._shelf.forget(path)

        return self._chores.submit(delete)

    def save_weights_for_sampler(
        self, session: TrainingSession, name: str, *, overwrite: bool = False
    ) -> Future[SavedWeights]:
        return self._submit(session, lambda remote: remote.save(name, kind="sampler_weights", overwrite=overwrite))

    def close_session(self, session: TrainingSession) -> Future[None]:
        found = self._sessions.get(session.session_id)
        if found is None:
            return Future.ready(None)
        line, remote = found

        def close() -> None:
            line.wait_for_earlier()
            remote.close()
            if self._sessions.pop(session.session_id, None) is not None:
                line.close()

        return Future.ready(None) if line.closed else line.submit(close)

    def close(self) -> None:
        """Tell the backend; the service's session ends when its other client is closed too."""
        for line, _ in list(self._sessions.values()):
            line.close()
        self._chores.close()
        self._on_close(self.port_name)

    def _score(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        loss_fn: str,
        loss_fn_config: Mapping[str, float] | None,
        *,
        backward: bool,
    ) -> Future[ForwardBackwardOutput]:
        kept, config = tuple(datums), dict(loss_fn_config or {})

        def score(remote: "RemoteSession") -> Sent[ForwardBackwardOutput]:
            known = self.capabilities().losses
            if loss_fn not in known:
                raise UnsupportedError.of(
                    "the Tinker SDK has no such loss", given=loss_fn, fix=did_you_mean(loss_fn, known)
                )
            return remote.score(kept, loss_fn=loss_fn, config=config, backward=backward)

        return self._submit(session, score)

    def _submit(self, session: TrainingSession, call: "Callable[[RemoteSession], T | Sent[T]]") -> Future[T]:
        found = self._sessions.get(session.session_id)
        if found is None:
            return Future.of(lambda: _raise(ValueError(f"there is no open training session {session.session_id!r}")))
        line, remote = found
        return line.submit(lambda: call(remote))

    def _line(self, name: str) -> Line:
        def closed() -> Exception:
            return PortError(
                "the client was closed before this request was made", port=self.port_name, adapter="tinker"
            )

        return Line(name, closed=closed)


def _config_problems(config: SessionConfig) -> ConfigError | None:
    problems: list[Problem] = []
    if config.lora_rank < 1:
        problems.append(
            Problem(what="is not a whole number of at least 1", where="lora_rank", given=repr(config.lora_rank))
        )
    if not (config.train_attn or config.train_mlp or config.train_unembed):
        problems.append(Problem(what="no layer is trained", where="train_attn, train_mlp, train_unembed"))
    return ConfigError(problems) if problems else None


def _raise(error: Exception) -> Any:
    raise error
