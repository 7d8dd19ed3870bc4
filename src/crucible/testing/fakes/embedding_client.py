"""How near are texts without a model? `FakeEmbeddingClient`: by the words and letters that they share."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crucible.errors import PortError
from crucible.ports.embedding_client import EmbeddingCapabilities, EmbeddingClient
from crucible.ports.future import Future


class FakeEmbeddingClient(EmbeddingClient):
    """Feature hashing (Weinberger et al., arXiv:0902.2206) of words and of three letters in a row, without signs.

    Cosines are in [0, 1], and follow spelling alone.
    """

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self, *, dimension: int = 256) -> None:
        self._dimension = dimension
        self._closed = False

    def capabilities(self) -> EmbeddingCapabilities:
        return EmbeddingCapabilities(dimension=self._dimension, computes=False, exact=True)

    def embed_texts(self, texts: Sequence[str]) -> Future[NDArray[np.float32]]:
        return Future.of(lambda: self._embed(list(texts)))

    def close(self) -> None:
        self._closed = True

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        if self._closed:
            raise PortError("the client is closed", port=self.port_name, adapter="noop")
        if blank := [index for index, text in enumerate(texts) if not text.strip()]:
            raise ValueError(f"text {blank[0]} is empty, so it has no direction")
        rows = np.zeros((len(texts), self._dimension), dtype=np.float64)
        for row, text in zip(rows, texts, strict=True):
            for feature in _features(text):
                digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                row[int.from_bytes(digest, "big") % self._dimension] += 1
            row /= np.linalg.norm(row)
        return rows.astype(np.float32)


def _features(text: str) -> Iterator[str]:
    for word in text.lower().split():
        yield word
        padded = f" {word} "
        yield from (padded[start : start + 3] for start in range(len(padded) - 2))
