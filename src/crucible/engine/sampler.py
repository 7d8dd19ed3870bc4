# pyright: standard
# (hands torch tensors between the engine's parts)
"""What do sampling sessions hold, and how does a prompt become completions?

Synchronous; only the engine's worker thread calls it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crucible.engine import checkpoint
from crucible.engine.decoding import decode, score
from crucible.engine.lora import LoraAdapter, fill_adapter
from crucible.engine.model import LoadedModel, adapter_for
from crucible.engine.shelf import ModelShelf
from crucible.errors import UnsupportedError
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SampleReport, SampleResponse, SamplingParams, SamplingSession
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import SessionConfig


@dataclass(frozen=True, kw_only=True)
class _OpenWeights:
    """A sampling session's weights: a base model, and an adapter that nothing else holds."""

    session: SamplingSession
    loaded: LoadedModel
    adapter: LoraAdapter | None


class Sampler:
    """Sampling sessions: fixed weights by id.

    should_stop: asked before every forward pass; True ends the call with a CancelledError.
    """

    def __init__(self, shelf: ModelShelf, *, should_stop: Callable[[], bool]) -> None:
        self._shelf, self._should_stop = shelf, should_stop
        self._sessions: dict[str, _OpenWeights] = {}
        self._numbers = itertools.count(1)

    def start_session(self, *, base_model: str | None, model_path: str | None) -> SamplingSession:
        """See `SamplingClient.start_session`."""
        if model_path is None:
            if base_model is None:
                raise ValueError("give base_model, model_path, or both")
            loaded = self._shelf.get(base_model)
            return self._keep(SamplingSession(session_id=self._new_id(), base_model=base_model), loaded, None)
        saved = checkpoint.read(Path(model_path), optimizer=False)
        reference = saved.base_model if base_model is None else base_model
        loaded = self._shelf.get(reference)
        checkpoint.require_model(saved, loaded.fingerprint, given=reference)
        adapter = adapter_for(loaded, SessionConfig(model=reference, **saved.lora))
        fill_adapter(adapter, saved.adapter)
        session = SamplingSession(
            session_id=self._new_id(),
            base_model=reference,
            model_path=model_path,
            digest=saved.digest,
            policy_version=saved.policy_version,
        )
        return self._keep(session, loaded, adapter)

    def sample(
        self,
        handle: SamplingSession,
        prompt: ModelInput,
        *,
        params: SamplingParams,
        num_samples: int,
        tokenizer: Tokenizer,
        prompt_logprobs: bool,
        report: SampleReport | None = None,
    ) -> SampleResponse:
        """See `SamplingClient.sample`."""
        if report is not None:
            raise UnsupportedError.of("this engine gives no such report", given=repr(report))
        weights = self._weights(handle)
        with weights.loaded.active.use(weights.adapter):
            return decode(
                weights.loaded.model,
                prompt.to_ints(),
                provenance=weights.session.provenance(params),
                params=params,
                num_samples=num_samples,
                tokenizer=tokenizer,
                prompt_logprobs=prompt_logprobs,
                should_stop=self._should_stop,
            )

    def compute_logprobs(self, handle: SamplingSession, prompt: ModelInput) -> tuple[float | None, ...]:
        """See `SamplingClient.compute_logprobs`."""
        weights = self._weights(handle)
        with weights.loaded.active.use(weights.adapter):
            return score(weights.loaded.model, prompt.to_ints(), should_stop=self._should_stop)

    def close_session(self, handle: SamplingSession) -> None:
        """See `SamplingClient.close_session`."""
        self._sessions.pop(handle.session_id, None)

    def _new_id(self) -> str:
        return f"sample-{next(self._numbers)}"

    def _keep(self, session: SamplingSession, loaded: LoadedModel, adapter: LoraAdapter | None) -> SamplingSession:
        self._sessions[session.session_id] = _OpenWeights(session=session, loaded=loaded, adapter=adapter)
        return session

    def _weights(self, handle: SamplingSession) -> _OpenWeights:
        if handle.session_id not in self._sessions:
            raise ValueError(f"there is no open sampling session {handle.session_id!r}")
        return self._sessions[handle.session_id]
