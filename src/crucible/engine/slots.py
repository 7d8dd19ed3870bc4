"""Which sequence is in which slot, and how many slots are computed?

The number of slots computed is one of a few widths that give a row the same bits; the smallest that holds the live
sequences is taken. A sequence may move to another slot with its keys and values: bits do not depend on the slot.
"""

from collections.abc import Iterator, Sequence

from crucible.engine.attention_slots import SHORTEST_PROMPT, Group
from crucible.engine.decoding_job import Job, LiveSequence
from crucible.engine.kv_cache import SlotKv, blocks
from crucible.engine.lora import LoraAdapter


class Slots:
    """Sequences by slot, and their keys and values.

    widths: how many slots may be computed, ascending.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self._widths = widths
        self.rows: list[LiveSequence | None] = []
        self.kv = SlotKv()

    @property
    def most(self) -> int:
        """Slots that can be taken."""
        return self._widths[-1]

    @property
    def live(self) -> int:
        """Slots taken."""
        return sum(1 for _ in self)

    @property
    def free(self) -> int:
        """Sequences that still find a slot."""
        return self.most - self.live

    def __iter__(self) -> Iterator[tuple[int, LiveSequence]]:
        """(slot, sequence), by slot."""
        return ((slot, sequence) for slot, sequence in enumerate(self.rows) if sequence is not None)

    def tokens_with(self, job: Job) -> int:
        """Tokens that all slots would have room for, were one more sequence of the request placed and all of them at
        their longest."""
        jobs = [job, *(sequence.job for _, sequence in self)]
        longest = max(_copied(each) + each.request.params.max_tokens for each in jobs)
        return next(width for width in self._widths if width >= len(jobs)) * _room(longest)

    def place(self, job: Job, index: int) -> None:
        """Give the request's sequence `index` a slot. The prompt must have been read."""
        copied = _copied(job)
        sequence = LiveSequence(job, index, used=copied)
        if None not in self.rows:
            self._resize(self.live + 1)
        slot = self.rows.index(None)
        self.rows[slot] = sequence
        job.live += 1
        if copied:
            self._make_room(copied)
            self.kv.fill(slot, job.kv)

    def remove(self, slot: int) -> None:
        """Free a slot."""
        self.rows[slot] = None
        if self.live == 0:
            self.rows = []
            self.kv.release()
        else:
            self.kv.clear(slot)

    def prepare(self) -> None:
        """Make room for one more token in each, in the smallest width."""
        if len(self.rows) > next(width for width in self._widths if width >= self.live):
            self._resize(self.live)
        self._make_room(1 + max(sequence.used for _, sequence in self))

    def groups(self) -> list[Group]:
        """The slots that share a prompt's keys and values."""
        slots: dict[int, list[int]] = {}
        for slot, sequence in self:
            if sequence.job.kv.length >= SHORTEST_PROMPT:
                slots.setdefault(id(sequence.job), []).append(slot)
        jobs = {id(sequence.job): sequence.job for _, sequence in self}
        return [Group(prompt=jobs[job].kv, slots=taken) for job, taken in slots.items()]

    def adapters(self) -> list[tuple[LoraAdapter | None, list[int]]]:
        """The live adapters, None for the base model, with their slots."""
        found: dict[int, tuple[LoraAdapter | None, list[int]]] = {}
        for slot, sequence in self:
            adapter = sequence.job.request.adapter
            found.setdefault(id(adapter), (adapter, []))[1].append(slot)
        return list(found.values())

    def _resize(self, count: int) -> None:
        width = next(width for width in self._widths if width >= count)
        sources = [slot for slot, _ in self]
        rows = [*sources, *[None] * (width - len(sources))]
        self.kv.arrange(rows, capacity=self.kv.capacity)
        self.rows = [None if row is None else self.rows[row] for row in rows]

    def _make_room(self, tokens: int) -> None:
        if tokens > self.kv.capacity:
            self.kv.arrange(list(range(len(self.rows))), capacity=_room(tokens))


def _copied(job: Job) -> int:
    """Tokens of the prompt that each of the request's slots has a copy of."""
    return job.kv.length if job.kv.length < SHORTEST_PROMPT else 0


def _room(tokens: int) -> int:
    """A quarter more than is needed: fewer copies of what is there."""
    return blocks(tokens + tokens // 4)
