"""Where do completions come from? A `SamplingClient`: token ids in, token ids and logprobs out."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from crucible.errors import StaleWeightsError
from crucible.ports.datum import ModelInput, TensorData
from crucible.ports.future import Future
from crucible.ports.port import Port
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import SavedWeights

StopReason: TypeAlias = Literal["stop", "length"]
TopLogprobs: TypeAlias = tuple[tuple[int, float], ...]
"""(token id, logprob) of the likeliest tokens at one position, the likeliest first, equals by id."""

OnToken: TypeAlias = Callable[[int, int], None]
"""Told of a token when it is drawn: the number of its completion, and the token. In the backend's own thread: it is to
return at once, and what it raises fails the request."""


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
class SampleReport:
    """What a request reports beside its completions, by Tinker's names. L: tokens of the prompt.

    topk_prompt_logprobs: so many of the likeliest tokens at each prompt position; 0: none.
    topk_sample_logprobs: the same at each sampled position.
    target_prompt_logprobs: (L - 1, K) int64 ids to score: row i at prompt position i + 1; -1 asks for nothing.
    prompt_alt_tokens_k: draw so many tokens, independently and at the request's temperature, from the model's own
        distribution at each prompt position after the first.
    prompt_logprobs_last_n: prompt logprobs and their top-k of the last n tokens alone (1 to L - 1); None: of all.
    """

    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens_k: int = 0
    prompt_logprobs_last_n: int | None = None


@dataclass(frozen=True, kw_only=True)
class SampledSequence:
    """One completion. The stop token, or the tokens that complete a stop string, are included.

    logprobs: of each token under the model's own distribution (temperature 1, no top-k or top-p), natural log.
    topk_logprobs: when asked for, the likeliest tokens at each position under the same distribution.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: StopReason
    topk_logprobs: tuple[TopLogprobs, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Which weights drew a response's tokens, and how.

    digest: of the adapter, that of its `SavedWeights`; "" for the base model itself.
    policy_version: optimizer steps that the adapter had taken; 0 for the base model; -1 where nobody knows.
    """

    base_model: str
    digest: str
    policy_version: int
    temperature: float

    def require(self, policy: SavedWeights) -> None:
        """Raise StaleWeightsError unless `policy` drew the tokens."""
        if (self.digest, self.policy_version) == (policy.digest, policy.policy_version):
            return
        drawn = f"policy version {self.policy_version} ({self.digest[:12]})" if self.digest else "the base model"
        raise StaleWeightsError.of(
            f"on-policy tokens were asked for, of policy version {policy.policy_version} ({policy.digest[:12]})",
            where=policy.path,
            given=drawn,
            fix="Open a sampling session on the weights just saved, and sample from that",
        )


@dataclass(frozen=True, kw_only=True)
class SampleResponse:
    """The completions of one prompt of L tokens.

    prompt_logprobs: when asked for, one per prompt token, the first None (and those before the last n).
    topk_prompt_logprobs: when asked for, one entry per prompt token, None where not scored.
    target_prompt_logprobs: when asked for, (L - 1, K) float32, 0 where the request had -1.
    prompt_alt_tokens, prompt_alt_logprobs: when asked for, (L - 1, k) int64 and float32.
    """

    sequences: tuple[SampledSequence, ...]
    provenance: Provenance
    prompt_logprobs: tuple[float | None, ...] | None = None
    topk_prompt_logprobs: tuple[TopLogprobs | None, ...] | None = None
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens: TensorData | None = None
    prompt_alt_logprobs: TensorData | None = None


@dataclass(frozen=True, kw_only=True)
class SamplingSession:
    """A handle on fixed weights. `model_path` is None for the base model itself.

    digest, policy_version: as in `Provenance`.
    """

    session_id: str
    base_model: str
    model_path: str | None = None
    digest: str = ""
    policy_version: int = 0

    def provenance(self, params: SamplingParams) -> Provenance:
        """What a response of this session says of its tokens."""
        return Provenance(
            base_model=self.base_model,
            digest=self.digest,
            policy_version=self.policy_version,
            temperature=params.temperature,
        )


@dataclass(frozen=True, kw_only=True)
class SamplingCapabilities:
    """What a backend can do.

    computes: False for a fake whose tokens follow no model.
    exact: a completion is a function of prompt, weights and seed, bit for bit, whatever is sampled beside it.
    report: gives what `SampleReport` asks for.
    streams: tells of tokens while it draws them.
    """

    computes: bool = True
    exact: bool = True
    prompt_logprobs: bool = True
    report: bool = True
    streams: bool = True


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
        report: SampleReport | None = None,
        on_token: OnToken | None = None,
    ) -> Future[SampleResponse]:
        """Draw `num_samples` completions; sample i uses a seed derived from `params.seed` and i.

        Requests are independent: none waits for another's end, and they may end in any order. `on_token` is told of
        every token of the response, each completion's in order, before the future is done.

        Raises (through the future):
            ValueError: if the prompt is empty, a parameter is out of range, or prompt plus max_tokens
                exceeds the model's context.
            UnsupportedError: if `report` or `on_token` asks for what `capabilities()` lacks.
        """

    @abstractmethod
    def compute_logprobs(self, session: SamplingSession, prompt: ModelInput) -> Future[tuple[float | None, ...]]:
        """The logprob of each prompt token given those before it; the first is None."""

    @abstractmethod
    def close_session(self, session: SamplingSession) -> Future[None]:
        """Free the session. Safe to call twice."""
