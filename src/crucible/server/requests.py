"""What do clients send as JSON? The fields that mean something here; others are ignored, since each release of the SDK
adds some. Field names are the SDK's.

A field that is known and not supported is read, so that it can be refused by name.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
TokenId = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]


class Optimizer(Struct, kw_only=True):
    """An optimizer by its type: `adamw`."""

    type: str = "adamw"


class CreateSession(Struct, kw_only=True):
    """POST /create_session."""

    tags: list[str] = []
    user_metadata: dict[str, Any] | None = None
    sdk_version: str = ""
    project_id: str | None = None
    display_name: str | None = None


class SessionHeartbeat(Struct, kw_only=True):
    """POST /session_heartbeat."""

    session_id: str


class FinishReason(Struct, kw_only=True):
    """How a client ended."""

    type: str


class FinishSession(Struct, kw_only=True):
    """POST /sessions/ID/finish."""

    reason: FinishReason
    detail: str | None = None


class Lora(Struct, kw_only=True):
    """The adapter of a new model."""

    rank: int
    seed: Int64 | None = None
    train_unembed: bool = True
    train_mlp: bool = True
    train_attn: bool = True


class CreateModel(Struct, kw_only=True):
    """POST /create_model."""

    session_id: str
    model_seq_id: int
    base_model: str
    user_metadata: dict[str, Any] | None = None
    lora_config: Lora | None = None
    optimizer_config: Optimizer = msgspec.field(default_factory=Optimizer)


class GetInfo(Struct, kw_only=True):
    """POST /get_info."""

    model_id: str


class ModelCall(Struct, kw_only=True):
    """What every request to a model says: whose turn it is."""

    model_id: str
    seq_id: int


class Adam(Struct, kw_only=True):
    """One AdamW step."""

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


class OptimStep(ModelCall, kw_only=True):
    """POST /optim_step. optimizer_params: of an optimizer that is not Adam."""

    adam_params: Adam | None = None
    optimizer_params: Optimizer | None = None


class SaveWeights(ModelCall, kw_only=True):
    """POST /save_weights. path: the checkpoint's name."""

    path: str | None = None
    ttl_seconds: int | None = None
    overwrite: bool = False
    user_metadata: dict[str, Any] | None = None


class SaveWeightsForSampler(ModelCall, kw_only=True):
    """POST /save_weights_for_sampler: under a name, or without one as a sampling session."""

    path: str | None = None
    sampling_session_seq_id: int | None = None
    kind: str = "snapshot"
    ttl_seconds: int | None = None
    user_metadata: dict[str, Any] | None = None


class SaveWeightsExternal(ModelCall, kw_only=True):
    """POST /save_weights_external."""

    path: str
    ttl_seconds: int | None = None
    age_encryption_recipients: list[str] | None = None


class LoadWeights(Struct, kw_only=True):
    """POST /load_weights: onto a model (model_id, seq_id), or as a new one (session_id, model_seq_id)."""

    path: str
    optimizer: bool
    model_id: str | None = None
    seq_id: int | None = None
    session_id: str | None = None
    model_seq_id: int | None = None
    base_model: str | None = None
    user_metadata: dict[str, Any] | None = None
    optimizer_config: Optimizer | None = None
    weights_access_token: str | None = None


class CreateCustomLoss(Struct, kw_only=True):
    """POST /create_custom_loss."""

    session_id: str
    name: str = ""


class CreateSamplingSession(Struct, kw_only=True):
    """POST /create_sampling_session."""

    session_id: str
    sampling_session_seq_id: int
    base_model: str | None = None
    model_path: str | None = None


class JoinSamplingSession(Struct, kw_only=True):
    """POST /join_sampling_session."""

    sampling_session_id: str


class TensorJson(Struct, kw_only=True):
    """A tensor of token ids; with the sparse fields, `data` holds only the named cells."""

    data: list[Int64]
    dtype: str
    shape: list[Int64] | None = None
    sparse_crow_indices: list[Int64] | None = None
    sparse_col_indices: list[Int64] | None = None


class ChunkJson(Struct, kw_only=True):
    """A piece of a prompt. tokens: of `encoded_text`; data (base64), format, expected_tokens: of `image`."""

    type: str = "encoded_text"
    tokens: list[TokenId] = []
    data: bytes = b""
    format: str = ""
    expected_tokens: int | None = None


class PromptJson(Struct, kw_only=True):
    """A model's input."""

    chunks: list[ChunkJson]


class SamplingParamsJson(Struct, kw_only=True):
    """How to draw tokens."""

    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str | int] | None = None
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0


class Asample(Struct, kw_only=True):
    """POST /asample."""

    sampling_session_id: str
    seq_id: int
    prompt: PromptJson
    sampling_params: SamplingParamsJson
    num_samples: int = 1
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    target_prompt_logprobs: TensorJson | None = None
    prompt_alt_tokens_k: int = 0
    prompt_logprobs_last_n: int | None = None
    record_stability_info: bool | None = None


class RetrieveFuture(Struct, kw_only=True):
    """POST /retrieve_future."""

    request_id: str
    allow_metadata_only: bool = False


class FuturesTarget(Struct, kw_only=True):
    """One client's requests of a sampling session."""

    sampling_session_id: str
    cloned_sampler_id: int = 0


class RetrieveFutures(Struct, kw_only=True):
    """POST /retrieve_futures."""

    target: FuturesTarget
    prev_cursor: int = 0
    timeout: float | None = None
    retrieved_request_ids: list[str] = []


class CancelFuture(Struct, kw_only=True):
    """POST /cancel_future."""

    request_id: str
