# pyright: standard
# (hands torch tensors between the engine's parts)
"""How do prompts become completions, many at a time, with the bits that each would have alone?

A prompt is read once for all its completions, in chunks that depend on it alone. Each completion then has a slot, and
a step reads one token in every slot. Sequences come and go between steps. That a completion is a function of prompt,
weights and seed alone rests on rows whose bits depend on nothing beside them: `attention_slots.py` and
`lora_sampling.py` compute such rows, and `decoding_probe.py` tests on this machine that they are.
"""

import concurrent.futures
import math
from collections.abc import Callable, Sequence

from torch import Tensor

from crucible.engine.decoding_draw import NextToken
from crucible.engine.decoding_job import Job
from crucible.engine.decoding_pass import DecodingPass, PromptPart
from crucible.engine.decoding_probe import Prepared
from crucible.engine.decoding_report import BLOCK_ROWS
from crucible.engine.decoding_request import DecodeRequest, check
from crucible.engine.model import LoadedModel
from crucible.engine.slots import Slots
from crucible.ports.sampling_client import SampleResponse

CHUNK = 256
"""Most prompt tokens in one pass. A constant, since other chunks give other bits; whole blocks of the report's."""

_READS = 4
"""Chunks of prompts that are read in a row while sequences wait for their next token."""


class SlotDecoder:
    """Decodes requests on one base model. It has no thread: `step` does one unit of work.

    A request's failure is its own. Requests get slots in turn, the one with the fewest first, as long as there is room
    for their keys and values.

    token_bytes: of a token's keys and values. room: bytes that more of them may take; one sequence is always decoded.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        prepared: Prepared,
        *,
        token_bytes: int = 0,
        room: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._pass = DecodingPass(loaded, prepared.linears)
        self._token_bytes, self._room = token_bytes, room
        self._slots, self._widths = Slots(prepared.widths), prepared.widths
        self._jobs: list[Job] = []
        self._reads = 0

    def add(self, request: DecodeRequest) -> "concurrent.futures.Future[SampleResponse]":
        """Queue a request.

        Raises:
            ValueError: if it cannot be decoded (see `decoding_request.check`).
            ArithmeticError: through the future, if the model's logits are not numbers.
        """
        check(request, self._pass.loaded)
        job = Job(request)
        job.future.set_running_or_notify_cancel()
        if not job.finish():
            self._jobs.append(job)
        return job.future

    @property
    def busy(self) -> bool:
        """Whether there is work for `step`."""
        return bool(self._jobs)

    @property
    def statistics(self) -> dict[str, float]:
        """Counts for people who watch. Any thread may ask."""
        jobs = list(self._jobs)
        return {
            "sequences_decoding": sum(job.live for job in jobs),
            "sequences_waiting": sum(len(job.waiting) for job in jobs),
            "kv_bytes": self._slots.kv.nbytes + sum(job.kv.nbytes for job in jobs),
        }

    def step(self) -> None:
        """Read a chunk of a prompt, or short ones of several, or one token in every slot."""
        jobs = self._to_read()
        if jobs and (not self._slots.live or self._reads < _READS):
            self._reads += 1
            self._read(jobs)
            return
        self._reads = 0
        self._admit()
        self._decode()

    def fail(self, error: Exception) -> None:
        """Every request that is not done fails with `error`."""
        for job in list(self._jobs):
            self._drop(job, error)

    def _to_read(self) -> list[Job]:
        """The request whose prompt is next, and others whose next tokens fit into the same rows. No more prompts are
        held than there are slots."""
        held = sum(1 for job in self._jobs if not job.readable)
        found: list[Job] = []
        rows = 0
        for job in self._jobs:
            if not job.readable or (held + len(found) >= self._slots.most and job.waiting):
                continue
            count = len(_next_part(job).tokens)
            if not found and count > self._together:
                return [job]
            if rows + count <= self._together:
                found.append(job)
                rows += count
        return found

    @property
    def _together(self) -> int:
        """Most tokens of prompts that are read as rows of a width."""
        return self._widths[-1] if len(self._widths) > 1 else 0

    def _read(self, jobs: Sequence[Job]) -> None:
        parts = [_next_part(job) for job in jobs]
        try:
            found = self._hidden(parts)
        except Exception as error:  # noqa: BLE001  (its reader gets whatever went wrong with this request alone)
            if len(jobs) == 1:
                self._drop(jobs[0], error)
            for job in jobs if len(jobs) > 1 else ():
                self._read([job])
            return
        for job, part, hidden in zip(jobs, parts, found, strict=True):
            self._take(job, part, hidden)

    def _hidden(self, parts: Sequence[PromptPart]) -> list[Tensor]:
        total = sum(len(part.tokens) for part in parts)
        if total > self._together:
            return [self._pass.prompt(part.tokens, part.kv, start=part.start, adapter=part.adapter) for part in parts]
        return self._pass.prompts(parts, width=next(width for width in self._widths if width >= total))

    def _take(self, job: Job, part: PromptPart, hidden: Tensor) -> None:
        try:
            for row in range(0, len(hidden), BLOCK_ROWS):
                block = hidden[row : row + BLOCK_ROWS]
                if job.report.wants(part.start + row + len(block)):
                    job.report.take(part.start + row, self._pass.logits(block, part.adapter))
        except Exception as error:  # noqa: BLE001  (as above)
            self._drop(job, error)
            return
        job.read = part.end
        self._finish(job)

    def _admit(self) -> None:
        while self._slots.free:
            ready = [job for job in self._jobs if job.waiting and not job.readable]
            if not ready:
                return
            job = min(ready, key=lambda each: each.live)
            needed = self._slots.tokens_with(job) * self._token_bytes - self._slots.kv.nbytes
            if self._slots.live and needed > self._room():
                return
            self._slots.place(job, job.waiting.popleft())

    def _decode(self) -> None:
        self._slots.prepare()
        rows = self._slots.rows
        logits = self._pass.slots(
            [0 if row is None else row.token for row in rows],
            self._slots.kv,
            used=[0 if row is None else row.used for row in rows],
            offsets=[0 if row is None else row.offset for row in rows],
            groups=self._slots.groups(),
            adapters=self._slots.adapters(),
        )
        values = logits.cpu().numpy()
        for slot, sequence in list(self._slots):
            job = sequence.job
            if job.future.done():  # it failed in another slot of this step
                continue
            try:
                done = sequence.advance(NextToken(values[slot]))
            except Exception as error:  # noqa: BLE001  (its reader gets whatever went wrong with this request alone)
                self._drop(job, error)
                continue
            if done is not None:
                self._slots.remove(slot)
                job.sequence_done(sequence.index, done)
                self._finish(job)

    def _finish(self, job: Job) -> None:
        if job.finish():
            self._jobs.remove(job)

    def _drop(self, job: Job, error: Exception) -> None:
        for slot, sequence in list(self._slots):
            if sequence.job is job:
                self._slots.remove(slot)
        self._jobs.remove(job)
        job.future.set_exception(error)


def _next_part(job: Job) -> PromptPart:
    """The tokens of its prompt that the request reads next. Where a prompt is cut follows from it alone."""
    request, start = job.request, job.read
    tokens = request.prompt[start : min(start + CHUNK, job.kv.length)]
    return PromptPart(tokens=tokens, start=start, kv=job.kv, adapter=request.adapter)
