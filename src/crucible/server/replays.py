"""Was this request sent before? A client that got no answer sends it again, with the same number."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Sent(Generic[V]):
    """What a number was sent with first, and what was answered."""

    content: int
    answer: V


class Replays(Generic[K, V]):
    """The requests that were taken, by number. Beyond `most`, the oldest are forgotten."""

    def __init__(self, *, most: int = 20_000) -> None:
        self._most = most
        self._sent: dict[K, Sent[V]] = {}

    def find(self, number: K, content: bytes) -> V | None:
        """What was answered to it; None if it is new.

        Raises:
            ValueError: if another request had this number.
        """
        sent = self._sent.get(number)
        if sent is None:
            return None
        if sent.content != hash(content):
            raise ValueError(f"another request was sent under the number {number} before; this one was not done")
        return sent.answer

    def add(self, number: K, content: bytes, answer: V) -> V:
        """Remember a request; returns its answer."""
        self._sent[number] = Sent(hash(content), answer)
        if len(self._sent) > self._most:
            del self._sent[next(iter(self._sent))]
        return answer

    def forget(self, number: K) -> None:
        """The request was not taken after all."""
        self._sent.pop(number, None)
