"""Is there memory for one more?

Counted by size and not measured: base models, what a micro-batch keeps for its backward pass, adapters with their
gradients and moments, KV caches. Not counted: the interpreter with torch (about 600 MiB) and a checkpoint's copy
while it is written.
"""

import itertools
import math
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from crucible.errors import PortError

T = TypeVar("T")

TRAINING_COPIES = 5
"""float32 numbers per adapter parameter in training: the matrix, the accumulated gradient, a call's own gradient, and
AdamW's two moments."""


def _machine_memory() -> float:
    """Bytes of the machine's memory; no bound where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


_MACHINE = _machine_memory()


class MemoryLedger:
    """What the engine holds, in bytes. Safe from any thread.

    limit: most bytes; None is no limit.
    also: asked for what grows and shrinks by itself, such as KV caches: it is counted as far as it is there, so that it
        leaves less room for others. It is not refused; who makes it grow asks `room_to_grow` first.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.also: Callable[[], float] = lambda: 0
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}
        self._numbers = itertools.count()

    @property
    def used(self) -> int:
        """Bytes held now."""
        return sum(list(self._sizes.values())) + round(self.also())

    def room_to_grow(self) -> float:
        """Bytes that KV caches may take more: what is free, or without a limit half of what the machine has beside all
        that is counted here."""
        if self.limit is not None:
            return self.limit - self.used
        return (_MACHINE - self.used) / 2

    @contextmanager
    def room_for(self, size: int, *, what: str) -> Generator[Callable[[T], T]]:
        """Within: `size` bytes are counted. Given to the callable, an object keeps them counted as long as it lives.

        Raises:
            PortError: if they do not fit; it is retryable, since another session's end may make room.
        """
        with self._lock:
            free = math.inf if self.limit is None else self.limit - self.used
            if size > free:
                raise PortError(
                    f"{what} needs {size / 2**20:.1f} MiB of memory, and {max(0, free) / 2**20:.1f} MiB are free",
                    port="engine",
                    adapter="torch",
                    retryable=True,
                    details={"queue_state": "paused_capacity", "needed_bytes": size, "limit_bytes": self.limit},
                )
            number = next(self._numbers)
            self._sizes[number] = size
        kept: list[object] = []

        def keep(owner: T) -> T:
            # The finalizer takes no lock: it runs wherever the last reference goes, in a thread that holds one too.
            weakref.finalize(owner, self._sizes.pop, number, None).atexit = False
            kept.append(None)
            return owner

        try:
            yield keep
        finally:
            if not kept:
                del self._sizes[number]
