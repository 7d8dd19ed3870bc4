"""Where do completions come from? A `SamplingClient`: token ids in, token ids and logprobs out."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from crucible.ports.datum import ModelInput
from crucible.ports.future import Future
from crucible.ports.port import Port
from crucible.ports.tokenizer import Tokenizer

StopReason: TypeAlias = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How to draw the next token.

    max_tokens: most tokens to draw; temperature: 0 is greedy; top_k: -1 is off; top_p: 1 is off.
    seed: the completion is a function of prompt, weights and seed; None draws a fresh seed.
    stop: None: the model's EOS ids; a string or strings; or token ids. `[]`: nothing stops it.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0
    seed: int | None = None
    stop: str | Sequence[str] | Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True)
class SampledSequence:
    """One completion. The stop token, or the tokens that complete a stop string, are included.

    logprobs: of each token under the model's own distribution (temperature 1, no top-k or top-p), natural log.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: StopReason


@dataclass(frozen=True, kw_only=True)
class SampleResponse:
    """The completions of one prompt.

    prompt_logprobs: when asked for, one per prompt token, the first None.
    """

    sequences: tuple[SampledSequence, ...]
    prompt_logprobs: tuple[float | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class SamplingSession:
    """A handle on fixed weights. `model_path` is None for the base model itself."""

    session_id: str
    base_model: str
    model_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class SamplingCapabilities:
    """What a backend can do.

    computes: False for a fake whose tokens follow no model.
    exact: a completion is a function of prompt, weights and seed.
    """

    computes: bool = True
    exact: bool = True
    prompt_logprobs: bool = True


class SamplingClient(Port):
    """A sampling backend. A session's weights never change, whatever training does meanwhile."""

    port_name: ClassVar[str] = "sampling_client"

    @abstractmethod
    def capabilities(self) -> SamplingCapabilities:
        """What this backend can do. Cheap; needs no session."""

    @abstractmethod
    def start_session(self, *, base_model: str | None = None, model_path: str | None = None) -> Future[SamplingSession]:
        """Open the base model, or the weights that `save_weights_for_sampler` (or a checkpoint) saved.

        Raises (through the future):
            ValueError: unless exactly one of the two is given (base_model may accompany model_path to check it).
            ModelError, CheckpointError: if it cannot be opened.
        """

    @abstractmethod
    def get_tokenizer(self, session: SamplingSession) -> Tokenizer:
        """The tokenizer of the session's base model."""

    @abstractmethod
    def sample(
        self,
        session: SamplingSession,
        prompt: ModelInput,
        *,
        num_samples: int = 1,
        params: SamplingParams,
        prompt_logprobs: bool = False,
    ) -> Future[SampleResponse]:
        """Draw `num_samples` completions; sample i uses a seed derived from `params.seed` and i.

        Raises (through the future):
            ValueError: if the prompt is empty, a parameter is out of range, or prompt plus max_tokens
                exceeds the model's context.
        """

    @abstractmethod
    def compute_logprobs(self, session: SamplingSession, prompt: ModelInput) -> Future[tuple[float | None, ...]]:
        """The logprob of each prompt token given those before it; the first is None."""

    @abstractmethod
    def close_session(self, session: SamplingSession) -> Future[None]:
        """Free the session. Safe to call twice."""
