"""How is the sampling port kept by the embedded engine?"""

from collections.abc import Callable, Mapping
from typing import ClassVar

from crucible.engine.engine import Engine
from crucible.ports.datum import ModelInput
from crucible.ports.future import Future
from crucible.ports.sampling_client import (
    OnToken,
    SampleReport,
    SampleResponse,
    SamplingCapabilities,
    SamplingClient,
    SamplingParams,
    SamplingSession,
)
from crucible.ports.tokenizer import Tokenizer, TokenizerStore


class TorchSamplingClient(SamplingClient):
    """Sampling from the base model or saved adapters on the embedded engine. Made by `TorchBackend`.

    on_close: told this client's port name when it is closed.
    """

    adapter_name: ClassVar[str] = "torch"

    def __init__(self, engine: Engine, *, tokenizers: TokenizerStore, on_close: Callable[[str], None]) -> None:
        self._engine, self._tokenizers, self._on_close = engine, tokenizers, on_close

    def capabilities(self) -> SamplingCapabilities:
        return SamplingCapabilities()

    def start_session(self, *, base_model: str | None = None, model_path: str | None = None) -> Future[SamplingSession]:
        return self._engine.submit(
            lambda room: room.weights.open(base_model=base_model, model_path=model_path),
            paths=() if model_path is None else (model_path,),
        )

    def get_tokenizer(self, session: SamplingSession) -> Tokenizer:
        return self._tokenizers.load(session.base_model)

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
        return self._engine.sample(
            session,
            lambda sampler, weights: sampler.submit(
                weights,
                prompt,
                params=params,
                num_samples=num_samples,
                tokenizer=self._tokenizers.load(session.base_model),
                prompt_logprobs=prompt_logprobs,
                report=report,
                on_token=on_token,
            ),
        )

    def compute_logprobs(self, session: SamplingSession, prompt: ModelInput) -> Future[tuple[float | None, ...]]:
        return self._engine.sample(session, lambda sampler, weights: sampler.submit_logprobs(weights, prompt))

    def close_session(self, session: SamplingSession) -> Future[None]:
        return self._engine.submit(lambda room: room.weights.close(session), session=session.session_id)

    def statistics(self) -> Mapping[str, float]:
        """Of the whole engine: both clients of a backend give the same."""
        return self._engine.statistics()

    def close(self) -> None:
        """Tell the backend; its engine ends when its other client is closed too."""
        self._on_close(self.port_name)
