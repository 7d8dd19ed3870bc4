"""Where do gradients come from? A `TrainingClient`: Tinker's verbs over LoRA sessions."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import Datum, TensorData
from crucible.ports.future import Future
from crucible.ports.model_facts import ModelFacts
from crucible.ports.port import Port
from crucible.ports.tokenizer import Tokenizer

LogprobsWanted: TypeAlias = Literal["all", "weighted"]
"""Which positions' logprobs a call must return: all, or only those that can have a loss (for cross_entropy: a weight
that is not zero; the others may be NaN, and a backend may then spend no work on them)."""

CustomObjective: TypeAlias = Callable[
    [Sequence[Datum], Sequence[NDArray[np.float32]]],
    tuple[float, Sequence[NDArray[np.float32]]],
]
"""(datums, logprobs per datum (N,) or (N, K)) -> (loss, d loss / d logprobs per datum, the same shapes). Pure numpy."""


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """What a training session is made of.

    model: a base model: packaged name, hub id, local folder or GGUF file.
    lora_rank: rank of every adapter matrix; lora_alpha: numerator of the scale alpha / rank.
    seed: initialises the adapter (A is drawn, B is zero).
    train_attn, train_mlp, train_unembed: which linear layers get an adapter.
    """

    model: str
    lora_rank: int = 32
    lora_alpha: float = 32.0
    seed: int = 0
    train_attn: bool = True
    train_mlp: bool = True
    train_unembed: bool = False
    user_metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class TrainingSession:
    """A handle on one LoRA adapter in training. Opaque but for what is shown here.

    config: what it was started with, from which the like of it can be started again.
    """

    session_id: str
    config: SessionConfig

    @property
    def model(self) -> str:
        """The base model's reference."""
        return self.config.model

    @property
    def lora_rank(self) -> int:
        """The rank of every adapter matrix."""
        return self.config.lora_rank


@dataclass(frozen=True, kw_only=True)
class AdamParams:
    """One AdamW step (Loshchilov & Hutter, arXiv:1711.05101), Tinker's fields and defaults.

    grad_clip_norm: global L2 norm to clip the accumulated gradient to; 0 means no clipping.
    """

    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-12
    weight_decay: float = 0.0
    grad_clip_norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ForwardBackwardOutput:
    """What forward and forward_backward return.

    loss_fn_outputs: one mapping per datum, in order: `logprobs`, of target_tokens' shape, float32, natural log of
        the target token's probability; `elementwise_loss`, the same shape, float32.
    metrics: keys are `name:reduction`; `loss:sum` always there.
    """

    loss_fn_output_type: str
    loss_fn_outputs: Sequence[Mapping[str, TensorData]]
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class OptimStepOutput:
    """What an optimizer step reports: `grad_norm` before clipping, where the backend has it."""

    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class SavedWeights:
    """A saved checkpoint: `path` loads it again on the same backend (a folder, or a `tinker://` path).

    digest: of all that was saved, as the backend counts it; "" where it has none. (Of a sampler's weights it is
    never empty: a backend that counts none gives what names the content, such as a path never used twice.)
    policy_version: optimizer steps that the adapter had taken; -1 where whoever saved it did not say.
    """

    path: str
    kind: Literal["weights", "sampler_weights"]
    digest: str = ""
    policy_version: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingCapabilities:
    """What a backend can do. A contract suite asks this, never the adapter's name.

    losses: names that `loss_fn` takes.
    computes: False for a fake whose numbers follow no model (then no learning is expected of it).
    exact: the same calls give the same bytes (same machine, versions, threads and dtype).
    topk_targets: cross_entropy and importance_sampling take K targets per position (tensors of (N, K)).
    lora_alpha: the only value that the backend takes; None: any.
    """

    losses: frozenset[str]
    computes: bool = True
    exact: bool = True
    custom_loss: bool = True
    images: bool = False
    train_unembed: bool = True
    topk_targets: bool = True
    lora_alpha: float | None = None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a run would ask of a backend, for an estimate.

    trained_input_tokens: input tokens of all forward_backward calls together; loss_tokens: those with a loss
    weight. scored_input_tokens: input tokens of all forward calls. longest: tokens of the longest sequence.
    """

    trained_input_tokens: int
    loss_tokens: int
    scored_input_tokens: int
    longest: int


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would cost. basis: how it was arrived at, in a phrase a person can judge it by."""

    seconds: float
    memory_bytes: int
    checkpoint_bytes: int
    trainable_parameters: int
    basis: str


class TrainingClient(Port):
    """A training backend.

    Guarantees: the calls of one session take effect in the order they were submitted, whatever the order
    they are awaited in. Gradients add up over `forward_backward` calls until `optim_step`, which uses and
    clears them. Losses are sum-reduced over tokens and datums: nothing is averaged. A failed call leaves
    the session as it was. Futures may be awaited in any order and from any thread.
    """

    port_name: ClassVar[str] = "training_client"

    @abstractmethod
    def capabilities(self) -> TrainingCapabilities:
        """What this backend can do. Cheap; needs no session."""

    def environment(self) -> Mapping[str, str]:
        """What the bytes of a result depend on beside the calls: versions, device, dtype, threads; by name."""
        return {}

    def estimate(self, config: SessionConfig, workload: Workload) -> Estimate | None:
        """What the workload would cost here, in a few seconds and without a session; None where unknown.

        Raises:
            ModelError: if the model cannot be found.
        """
        del config, workload
        return None

    def model_facts(self, model: str) -> ModelFacts | None:
        """The facts of a base model, without a session and with nothing loaded; None where unknown.

        Raises:
            ModelError: if there is no such model.
        """
        del model
        return None

    @abstractmethod
    def start_session(self, config: SessionConfig) -> Future[TrainingSession]:
        """Load the base model (once per backend) and make a fresh adapter on it.

        Raises (through the future):
            ModelError: if the model cannot be found or is of an unsupported kind.
            UnsupportedError: if the config asks for what `capabilities()` lacks.
        """

    @abstractmethod
    def get_tokenizer(self, session: TrainingSession) -> Tokenizer:
        """The tokenizer of the session's base model."""

    @abstractmethod
    def forward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        """Score; changes nothing. Errors as for `forward_backward`."""

    @abstractmethod
    def forward_backward(
        self,
        session: TrainingSession,
        datums: Sequence[Datum],
        *,
        loss_fn: str = "cross_entropy",
        loss_fn_config: Mapping[str, float] | None = None,
        logprobs: LogprobsWanted = "all",
    ) -> Future[ForwardBackwardOutput]:
        """Score, and add the loss's gradient to what the session has accumulated.

        With l the target's logprob, q = `logprobs` (the sampler's), A = `advantages`, r = exp(l - q):
        cross_entropy: `-l * weight`; weights may be any float, negative ones included; a missing `weights` means
            1 everywhere. With `target_tokens` and `weights` of (N, K), summed over the K targets of a position.
        importance_sampling: `-r * A`; (N, K) too.
        ppo: `-min(r * A, clip(r, low, high) * A)`, with clip_low_threshold 0.8 and clip_high_threshold 1.2.
        cispo: `-sg(clip(r, low, high)) * l * A`, with clip_low_threshold 0.0 and clip_high_threshold 4.0.
        dro: `-(l * A - beta / 2 * (l - q)^2)`, with beta 0.05, at every position whose q or A is not 0: RL data marks
            a prompt by zeros in both, and the quadratic term would pull its tokens to probability 1.
        gspo: ppo with r replaced by s = exp(mean of l - q over the sequence, where `sequence_ratio_mask` is not
            0), as a value; its derivative by l is s at each position (Zheng et al., arXiv:2507.18071);
            clip_low_threshold 0.8, clip_high_threshold 1.2. The mask must mark a position of every sequence that has
            an advantage.
        Source of formulas and defaults: the Tinker losses page. All are summed; sg is "no gradient". A tensor that the
        loss does not read is refused: it would change nothing. Metrics of losses with a ratio: `targets:sum`, and
        where a backend has them `ratio:min`, `ratio:max`, `outside_clip:sum`.

        Raises (through the future):
            UnsupportedError: if the loss, or a key of its config, is not one of `capabilities()`.
            ValueError: if a datum lacks a tensor the loss needs, has one that it does not read, shapes differ, a number
                is not finite, a target is no token id, a config value is out of range, or a loss is beyond float32.
        """

    @abstractmethod
    def forward_backward_custom(
        self, session: TrainingSession, datums: Sequence[Datum], objective: CustomObjective
    ) -> Future[ForwardBackwardOutput]:
        """As `forward_backward`, for an objective given as a function of the logprobs.

        Raises (through the future):
            ValueError: if the objective's derivative has not the logprobs' shapes.
            Exception: whatever the objective raised.
        """

    @abstractmethod
    def optim_step(self, session: TrainingSession, params: AdamParams) -> Future[OptimStepOutput]:
        """Apply the accumulated gradient and clear it. With nothing accumulated the gradient is zero."""

    @abstractmethod
    def save_checkpoint(
        self, session: TrainingSession, name: str, *, optimizer: bool = True, overwrite: bool = False
    ) -> Future[SavedWeights]:
        """Save the adapter as of this point in the session's order, whole or not at all.

        overwrite: take the place of a checkpoint of this name (a run that is continued saves again what it had
        saved before it was killed).

        Raises (through the future):
            CheckpointError: if the name is not a plain file name, or is taken and not to be overwritten; with
                `optimizer`, if a gradient is accumulated and not yet applied: it would be lost.
        """

    @abstractmethod
    def load_checkpoint(
        self, session: TrainingSession, path: str, *, optimizer: bool = True, digest: str = ""
    ) -> Future[None]:
        """Replace the session's adapter, and its optimizer state too unless `optimizer` is False (then it
        starts afresh). Accumulated gradients are dropped.

        digest: that of the `SavedWeights`, if it is to be exactly this content; "" takes what is there.

        Raises (through the future):
            ForeignCheckpointError: if it is of another base model, or of other weights of it.
            CheckpointError: if it is missing, damaged, of another digest or rank, or has no optimizer state where
                that is asked for.
        """

    @abstractmethod
    def delete_checkpoint(self, path: str) -> Future[None]:
        """Delete what `save_checkpoint` or `save_weights_for_sampler` saved; nothing happens if it is gone."""

    @abstractmethod
    def save_weights_for_sampler(
        self, session: TrainingSession, name: str, *, overwrite: bool = False
    ) -> Future[SavedWeights]:
        """Save a snapshot that `SamplingClient.start_session` opens; later training cannot move it.

        Raises (through the future):
            CheckpointError: as for `save_checkpoint`.
        """

    @abstractmethod
    def close_session(self, session: TrainingSession) -> Future[None]:
        """Free the session after what was submitted before. Safe to call twice."""
