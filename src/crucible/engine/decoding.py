# pyright: standard
# (hands torch tensors between the engine's parts)
"""How do prompts become completions, many at a time, with the bits that each would have alone?

A prompt is read once for all its completions, in chunks that depend on it alone. Each completion then has a slot, and
a step reads one token in every slot. Sequences come and go between steps. That a completion is a function of prompt,
weights and seed alone rests on rows whose bits depend on nothing beside them: `attention_slots.py` and
`lora_sampling.py` compute such rows, and `decoding_probe.py` tests on this machine that they are.
"""

import concurrent.futures

from crucible.engine.decoding_draw import NextToken
from crucible.engine.decoding_job import Job
from crucible.engine.decoding_pass import DecodingPass
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

    A request's failure is its own. Requests get slots in turn, the one with the fewest first.
    """

    def __init__(self, loaded: LoadedModel, prepared: Prepared) -> None:
        self._pass = DecodingPass(loaded, prepared.linears)
        self._slots = Slots(prepared.widths)
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
        """Read a chunk of a prompt, or one token in every slot."""
        job = self._to_read()
        if job is not None and (not self._slots.live or self._reads < _READS):
            self._reads += 1
            self._read(job)
            return
        self._reads = 0
        self._admit()
        self._decode()

    def fail(self, error: Exception) -> None:
        """Every request that is not done fails with `error`."""
        for job in list(self._jobs):
            self._drop(job, error)

    def _to_read(self) -> Job | None:
        """The request whose prompt is next. No more prompts are held than there are slots."""
        held = sum(1 for job in self._jobs if not job.readable)
        return next((job for job in self._jobs if job.readable and (held < self._slots.most or not job.waiting)), None)

    def _read(self, job: Job) -> None:
        request, start = job.request, job.read
        tokens = request.prompt[start : min(start + CHUNK, job.kv.length)]
        try:
            hidden = self._pass.prompt(tokens, job.kv, start=start, adapter=request.adapter)
            for row in range(0, len(tokens), BLOCK_ROWS):
                block = hidden[row : row + BLOCK_ROWS]
                if job.report.wants(start + row + len(block)):
                    job.report.take(start + row, self._pass.logits(block, request.adapter))
        except Exception as error:  # noqa: BLE001  (its reader gets whatever went wrong with this request alone)
            self._drop(job, error)
            return
        job.read += len(tokens)
        self._finish(job)

    def _admit(self) -> None:
        while self._slots.free:
            ready = [job for job in self._jobs if job.waiting and not job.readable]
            if not ready:
                return
            job = min(ready, key=lambda each: each.live)
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
