"""How far is a request, and how far is each of its sequences?"""

import concurrent.futures
from collections import deque

import numpy as np

from crucible.engine.decoding_draw import NextToken, generator
from crucible.engine.decoding_report import PromptReport
from crucible.engine.decoding_request import DecodeRequest
from crucible.engine.decoding_stops import StopRule, StopWatch
from crucible.engine.kv_cache import PromptKv
from crucible.engine.worker import CallersError
from crucible.ports.sampling_client import SampledSequence, SampleResponse, StopReason, TopLogprobs


class Job:
    """One request on its way. The prompt's last token is not read with the others: each sequence begins with it.

    kv: of the prompt but its last token; `read` tokens are in it.
    waiting: indices of the sequences that have no slot yet; live: how many have one.

    Raises:
        ValueError: if the stop rule makes no sense.
    """

    def __init__(self, request: DecodeRequest) -> None:
        self.request = request
        self.future: concurrent.futures.Future[SampleResponse] = concurrent.futures.Future()
        self.tokenizer = request.tokenizer
        self.rule = None if request.tokenizer is None else StopRule.of(request.params, request.tokenizer)
        self.seed = np.random.SeedSequence(request.params.seed)
        self.report = PromptReport(request, seed=self.seed)
        self.kv = PromptKv(len(request.prompt) - 1)
        self.read = self.live = 0
        self.waiting = deque(range(request.num_samples))
        self._done: dict[int, SampledSequence] = {}

    @property
    def readable(self) -> bool:
        """Whether some of the prompt is still to be read."""
        return self.read < self.kv.length

    def sequence_done(self, index: int, sequence: SampledSequence) -> None:
        """Take a finished sequence."""
        self._done[index] = sequence
        self.live -= 1

    def finish(self) -> bool:
        """Answer if everything is there; whether it was."""
        if self.readable or len(self._done) < self.request.num_samples:
            return False
        sequences = tuple(self._done[index] for index in range(self.request.num_samples))
        fields = self.report.fields()
        self.future.set_result(SampleResponse(sequences=sequences, provenance=self.request.provenance, **fields))
        return True


class LiveSequence:
    """A completion that is being decoded.

    token: the one to be read next. used: tokens already in the slot. offset: the position of the slot's first.
    """

    def __init__(self, job: Job, index: int, *, used: int) -> None:
        self.job, self.index, self.used = job, index, used
        self.offset = job.kv.length - used
        self.token = job.request.prompt[-1]
        self._rng = generator(job.seed, index)
        assert job.tokenizer is not None and job.rule is not None, "a request without samples has no sequences"
        self._known = job.tokenizer.vocab_size
        self._watch = StopWatch(job.rule, job.tokenizer)
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._tops: list[TopLogprobs] = []

    def advance(self, distribution: NextToken) -> SampledSequence | None:
        """Draw the next token; the whole completion if it is the last."""
        request = self.job.request
        token = distribution.draw(request.params, rng=self._rng, known=self._known)
        self.used += 1
        self.token = token
        self._tokens.append(token)
        self._logprobs.append(distribution.logprob(token))
        if request.on_token is not None:
            try:
                request.on_token(self.index, token)
            except Exception as error:
                raise CallersError(error) from error
        if request.report.topk_sample_logprobs:
            self._tops.append(distribution.likeliest(request.report.topk_sample_logprobs))
        if self._watch.complete(token):
            return self._sequence("stop")
        return self._sequence("length") if len(self._tokens) == request.params.max_tokens else None

    def _sequence(self, reason: StopReason) -> SampledSequence:
        return SampledSequence(
            tokens=tuple(self._tokens),
            logprobs=tuple(self._logprobs),
            stop_reason=reason,
            topk_logprobs=tuple(self._tops) if self.job.request.report.topk_sample_logprobs else None,
        )
