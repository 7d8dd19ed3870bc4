"""What does a server remember over a restart? Plain values, the same from every database.

Times are seconds since 1970. `owner` is the id of the API key that made a thing, or LOCAL where no keys are asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

T = TypeVar("T")

LOCAL = "local"
"""The owner of everything on a server that asks for no keys."""

CheckpointKind: TypeAlias = Literal["weights", "sampler_weights", "external_weights"]
"""What a checkpoint was saved for; also the middle part of its path `tinker://RUN/KIND/NAME`."""

CHECKPOINT_KINDS: tuple[CheckpointKind, ...] = ("weights", "sampler_weights", "external_weights")

EndReason: TypeAlias = Literal["success", "errored", "interrupted", "expired", "lost"]
"""Why a session ended: what its client said (the first three), no heartbeat for too long, or the server's own end."""


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """An API key, without its secret, which is shown once and kept nowhere."""

    key_id: str
    name: str
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class SessionRecord:
    """A client's session. ended_at: None while it is open."""

    session_id: str
    owner: str
    created_at: float
    tags: tuple[str, ...] = ()
    user_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sdk_version: str = ""
    project_id: str | None = None
    display_name: str | None = None
    ended_at: float | None = None
    end_reason: EndReason | Literal[""] = ""
    end_detail: str = ""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """An adapter in training, one per `create_model`.

    run_id: the protocol's model id, `{session_id}:train:{model_seq_id}`. session_id: None for a copy that was put
    into a project. base_model: the model's public name; reference: what the ports call it. lora: `rank`, `alpha`,
    `seed`, `train_attn`, `train_mlp`, `train_unembed`.
    """

    run_id: str
    owner: str
    session_id: str | None
    base_model: str
    reference: str
    lora: Mapping[str, Any]
    created_at: float
    last_request_at: float
    user_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    project_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class SamplerRecord:
    """A sampling session. model_path: the `tinker://` path that it was made from; None for the base model alone."""

    sampler_id: str
    owner: str
    session_id: str
    base_model: str
    model_path: str | None
    created_at: float


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """Weights that were saved, whole, before this record was.

    owner: its run's. engine_path: where the backend finds them; several records may share one (a copy is a record).
    digest, policy_version: as in `SavedWeights`. optimizer: its state was saved too. expires_at: None is never.
    """

    run_id: str
    kind: CheckpointKind
    name: str
    owner: str
    engine_path: str
    digest: str
    policy_version: int
    size_bytes: int
    created_at: float
    expires_at: float | None = None
    public: bool = False
    optimizer: bool = False
    user_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def tinker_path(self) -> str:
        """What clients call it."""
        return f"tinker://{self.run_id}/{self.kind}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """Some of the things there are. total: how many there are in all."""

    items: tuple[T, ...]
    total: int
