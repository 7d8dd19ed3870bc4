"""How is the sampling port kept by a Tinker service?"""

import concurrent.futures
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from crucible.adapters.tinker.checkpoints import Known, Shelf, run_of
from crucible.adapters.tinker.failures import Edge
from crucible.adapters.tinker.futures import Sent, concurrent_of, settled
from crucible.adapters.tinker.line import Line
from crucible.adapters.tinker.service import Service
from crucible.errors import CheckpointError, ForeignCheckpointError, ModelError, PortError, UnsupportedError
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

if TYPE_CHECKING:
    import tinker

T = TypeVar("T")


class TinkerSamplingClient(SamplingClient):
    """Sampling from base models and saved weights at a Tinker service. Made by `TinkerBackend`.

    on_close: told this client's port name when it is closed.
    """

    adapter_name: ClassVar[str] = "tinker"

    def __init__(
        self, service: Service, *, shelf: Shelf, tokenizers: TokenizerStore, on_close: Callable[[str], None]
    ) -> None:
        self._service, self._shelf, self._tokenizers, self._on_close = service, shelf, tokenizers, on_close
        self._edge = Edge(port=self.port_name, secret=service.options.api_key, repeatable=True)
        self._numbers = itertools.count(1)
        self._sessions: dict[str, tinker.SamplingClient] = {}
        self._openings = Line("crucible-tinker-openings", closed=self._closed)

    def capabilities(self) -> SamplingCapabilities:
        return SamplingCapabilities(exact=self._service.options.exact, streams=False)

    def start_session(self, *, base_model: str | None = None, model_path: str | None = None) -> Future[SamplingSession]:
        return self._openings.submit(lambda: self._opened(base_model, model_path))

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
        def send() -> Sent[SampleResponse]:
            if on_token is not None:
                raise UnsupportedError.of("a Tinker service gives whole completions", fix="Wait for the response")
            from crucible.adapters.tinker.conversion import to_input, to_tensor
            from crucible.adapters.tinker.drawing import from_response, to_params

            client, wanted = self._client(session), report or SampleReport()
            targets = wanted.target_prompt_logprobs
            with self._edge.sending():
                made = client.sample(
                    prompt=to_input(prompt),
                    num_samples=num_samples,
                    sampling_params=to_params(params),
                    include_prompt_logprobs=prompt_logprobs,
                    topk_prompt_logprobs=wanted.topk_prompt_logprobs,
                    topk_sample_logprobs=wanted.topk_sample_logprobs,
                    target_prompt_logprobs=None if targets is None else to_tensor(targets),
                    prompt_alt_tokens_k=wanted.prompt_alt_tokens_k,
                    prompt_logprobs_last_n=wanted.prompt_logprobs_last_n,
                )
            provenance = session.provenance(params)
            return Sent(
                source=concurrent_of(made),
                convert=lambda response: from_response(response, provenance),
                edge=self._edge,
            )

        return _sent(send)

    def compute_logprobs(self, session: SamplingSession, prompt: ModelInput) -> Future[tuple[float | None, ...]]:
        def send() -> Sent[tuple[float | None, ...]]:
            from crucible.adapters.tinker.conversion import to_input

            client = self._client(session)
            with self._edge.sending():
                made = client.compute_logprobs(to_input(prompt))
            return Sent(source=concurrent_of(made), convert=tuple, edge=self._edge)

        return _sent(send)

    def close_session(self, session: SamplingSession) -> Future[None]:
        """See the port. The service frees it when its client's session ends."""
        self._sessions.pop(session.session_id, None)
        return Future.ready(None)

    def close(self) -> None:
        """Tell the backend; the service's session ends when its other client is closed too."""
        self._openings.close()
        self._on_close(self.port_name)

    def _opened(self, base_model: str | None, model_path: str | None) -> SamplingSession:
        """Open a sampler, and wait for it."""
        if model_path is None and base_model is None:
            raise ValueError("give base_model, model_path, or both")
        import tinker

        known = Known(policy_version=0) if model_path is None else self._known(model_path)
        asked = {"base_model": base_model} if model_path is None else {"model_path": model_path}
        with self._edge.of(ModelError if model_path is None else CheckpointError).answered():
            made = self._service.client.create_sampling_client(**asked)
            client = settled(made, tinker.SamplingClient)
            served = client.get_base_model()
        if model_path is not None and base_model not in (None, served):
            raise ForeignCheckpointError.of(f"the weights belong to another base model ({served})", given=base_model)
        session = SamplingSession(
            session_id=f"tinker-{next(self._numbers)}",
            base_model=base_model or served,
            model_path=model_path,
            digest=model_path or "",
            policy_version=known.policy_version,
        )
        self._sessions[session.session_id] = client
        return session

    def _known(self, model_path: str) -> Known:
        from crucible.adapters.tinker.session import known_at

        run, known = run_of(model_path), self._shelf.known(model_path)
        with self._edge.of(CheckpointError).answered():
            return known or known_at(self._service, run, model_path)

    def _client(self, session: SamplingSession) -> "tinker.SamplingClient":
        if session.session_id not in self._sessions:
            raise ValueError(f"there is no open sampling session {session.session_id!r}")
        return self._sessions[session.session_id]

    def _closed(self) -> Exception:
        return PortError("the client was closed before this request was made", port=self.port_name, adapter="tinker")


def _sent(send: Callable[[], Sent[T]]) -> Future[T]:
    """Make a request now, in this thread."""
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
        sent = send()
    except Exception as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
        outcome.set_exception(error)
    else:
        sent.into(outcome)
    return Future(outcome)
