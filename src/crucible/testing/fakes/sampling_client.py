"""What completes a prompt when nothing is computed? `FakeSamplingClient`: tokens hashed from prompt and seed."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from crucible.errors import CheckpointError, ModelError, PortError
from crucible.ports.datum import ModelInput
from crucible.ports.future import Future
from crucible.ports.sampling_client import (
    OnToken,
    SampledSequence,
    SampleReport,
    SampleResponse,
    SamplingCapabilities,
    SamplingClient,
    SamplingParams,
    SamplingSession,
)
from crucible.ports.tokenizer import Tokenizer
from crucible.testing.fakes.call_queue import CallQueue
from crucible.testing.fakes.sampling_report import likeliest, prompt_report, report_complaints
from crucible.testing.fakes.sampling_report import prompt_logprobs as scored_prompt
from crucible.testing.fakes.scores import token_logprobs
from crucible.testing.fakes.tokenizer import FakeTokenizer
from crucible.testing.fakes.weights import FakeWeights, WeightsShelf

CONTEXT_LENGTH = 131_072
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", dtype=np.uint8)  # 26 letters, 6 spaces of 32
_END_EVERY = 24
"""A completion ends at each token with probability 1 / 24."""


@dataclass(frozen=True, kw_only=True)
class _Stops:
    """What ends a completion: one of these ids, or one of these texts in it."""

    ids: frozenset[int]
    texts: tuple[str, ...]


class FakeSamplingClient(SamplingClient):
    """Deterministic completions in lower-case letters; a seed of None takes the next number of a counter.

    checkpoint_dir, latency, shelf: as for `FakeTrainingClient`.
    """

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(
        self, *, checkpoint_dir: Path | None = None, latency: float = 0.0, shelf: WeightsShelf | None = None
    ) -> None:
        self._shelf = shelf or WeightsShelf(checkpoint_dir)
        self._queue = CallQueue(port=self.port_name, latency=latency)
        self._tokenizer = FakeTokenizer()
        self._sessions: dict[str, FakeWeights] = {}
        self._numbers = itertools.count(1)
        self._fresh_seeds = itertools.count(1 << 62)  # far from seeds that people choose

    def capabilities(self) -> SamplingCapabilities:
        return SamplingCapabilities(computes=False)

    def start_session(self, *, base_model: str | None = None, model_path: str | None = None) -> Future[SamplingSession]:
        return self._queue.submit(lambda: self._start(base_model, model_path))

    def get_tokenizer(self, session: SamplingSession) -> Tokenizer:  # noqa: ARG002  (one for all)
        return self._tokenizer

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
        asked = report or SampleReport()

        def call() -> SampleResponse:
            weights, vocab_size = self._weights(session), self._tokenizer.vocab_size
            tokens = self._prompt(prompt)
            complaints = report_complaints(
                asked, prompt_length=len(tokens), prompt_logprobs=prompt_logprobs, vocab_size=vocab_size
            )
            _check_params(params, num_samples=num_samples, prompt_length=len(tokens), complaints=complaints)
            seed = params.seed if params.seed is not None else next(self._fresh_seeds)
            drawn = [self._draw(weights, tokens, params, seed, index) for index in range(num_samples)]
            if on_token is not None:
                for index, sequence in enumerate(drawn):
                    for token in sequence.tokens:
                        on_token(index, token)
            if k := asked.topk_sample_logprobs:
                drawn = [self._with_likeliest(weights, tokens[-1], sequence, k) for sequence in drawn]
            last = asked.prompt_logprobs_last_n
            return SampleResponse(
                sequences=tuple(drawn),
                provenance=session.provenance(params),
                prompt_logprobs=scored_prompt(weights, tokens, last=last) if prompt_logprobs else None,
                **prompt_report(
                    weights, tokens, asked, temperature=params.temperature, seed=seed, vocab_size=vocab_size
                ),
            )

        return self._queue.submit(call)

    def compute_logprobs(self, session: SamplingSession, prompt: ModelInput) -> Future[tuple[float | None, ...]]:
        return self._queue.submit(lambda: scored_prompt(self._weights(session), self._prompt(prompt)))

    def close_session(self, session: SamplingSession) -> Future[None]:
        def call() -> None:
            self._sessions.pop(session.session_id, None)

        return self._queue.submit(call)

    def close(self) -> None:
        self._queue.close()

    def _start(self, base_model: str | None, model_path: str | None) -> SamplingSession:
        if base_model is None and model_path is None:
            raise ValueError("a sampling session needs a base_model or a model_path")
        if model_path is not None:
            weights = self._shelf.load(model_path)
            if base_model not in (None, weights.model):
                raise CheckpointError.of(f"these weights are of {weights.model}", given=str(base_model))
        else:
            assert base_model is not None
            if not base_model.strip():
                raise ModelError.of("there is no model without a name", given=repr(base_model))
            weights = FakeWeights(model=base_model, lora_rank=0)
        session = SamplingSession(
            session_id=f"fake-{next(self._numbers)}",
            base_model=weights.model,
            model_path=model_path,
            digest=weights.digest if model_path else "",
            policy_version=weights.policy_version,
        )
        self._sessions[session.session_id] = weights
        return session

    def _weights(self, session: SamplingSession) -> FakeWeights:
        if session.session_id not in self._sessions:
            raise PortError(
                f"session {session.session_id} is closed or was never open", port=self.port_name, adapter="noop"
            )
        return self._sessions[session.session_id]

    def _prompt(self, prompt: ModelInput) -> list[int]:
        tokens = prompt.to_ints()
        if not tokens:
            raise ValueError("the prompt is empty")
        outside = [token for token in tokens if not 0 <= token < self._tokenizer.vocab_size]
        if outside:
            raise ValueError(f"{outside[0]} is no token id: the vocabulary has {self._tokenizer.vocab_size}")
        return tokens

    def _draw(
        self, weights: FakeWeights, prompt: Sequence[int], params: SamplingParams, seed: int, index: int
    ) -> SampledSequence:
        drawn_by = (seed, index) if params.temperature > 0 else ()  # greedy: no chance in it
        digest = hashlib.sha256(repr((weights.model, weights.updates, tuple(prompt), drawn_by)).encode()).digest()
        random = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
        stops = self._stops(params)
        tokens: list[int] = []
        stopped = False
        while len(tokens) < params.max_tokens and not stopped:
            ends = random.integers(_END_EVERY) == 0
            tokens.append(min(self._tokenizer.eos_ids) if ends else int(_LETTERS[random.integers(len(_LETTERS))]))
            text = self._tokenizer.decode(tokens) if stops.texts else ""
            stopped = tokens[-1] in stops.ids or any(stop in text for stop in stops.texts)
        before = np.asarray([prompt[-1], *tokens[:-1]], dtype=np.int64)
        logprobs = token_logprobs(weights, before, np.asarray(tokens, dtype=np.int64))
        return SampledSequence(
            tokens=tuple(tokens),
            logprobs=tuple(float(value) for value in logprobs),
            stop_reason="stop" if stopped else "length",
        )

    def _with_likeliest(self, weights: FakeWeights, before: int, sequence: SampledSequence, k: int) -> SampledSequence:
        tops = likeliest(weights, [before, *sequence.tokens[:-1]], k=k, vocab_size=self._tokenizer.vocab_size)
        return replace(sequence, topk_logprobs=tuple(tops))

    def _stops(self, params: SamplingParams) -> _Stops:
        if params.stop is None:
            return _Stops(ids=self._tokenizer.eos_ids, texts=())
        stops = [params.stop] if isinstance(params.stop, str) else list(params.stop)
        return _Stops(
            ids=frozenset(stop for stop in stops if isinstance(stop, int)),
            texts=tuple(stop for stop in stops if isinstance(stop, str)),
        )


def _check_params(params: SamplingParams, *, num_samples: int, prompt_length: int, complaints: Sequence[str]) -> None:
    """Raise ValueError, naming `complaints` too, unless the request can be drawn."""
    wrong = [
        *complaints,
        *_params_complaints(params, num_samples=num_samples, prompt_length=prompt_length),
    ]
    if wrong:
        raise ValueError("; ".join(wrong))


def _params_complaints(params: SamplingParams, *, num_samples: int, prompt_length: int) -> list[str]:
    return [
        message
        for message, is_wrong in (
            (f"num_samples is {num_samples}: at least 1", num_samples < 1),
            (f"max_tokens is {params.max_tokens}: at least 1", params.max_tokens < 1),
            (f"temperature is {params.temperature}: 0 or more", not params.temperature >= 0),
            (f"top_p is {params.top_p}: above 0, at most 1", not 0 < params.top_p <= 1),
            (f"top_k is {params.top_k}: -1 (off) or at least 1", params.top_k != -1 and params.top_k < 1),
            (
                f"{prompt_length} + {params.max_tokens} tokens exceed the context of {CONTEXT_LENGTH}",
                prompt_length + params.max_tokens > CONTEXT_LENGTH,
            ),
        )
        if is_wrong
    ]
