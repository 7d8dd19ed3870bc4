"""How near are two texts in meaning? An `EmbeddingClient`: texts in, unit vectors out."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from crucible.ports.future import Future
from crucible.ports.port import Port


@dataclass(frozen=True, kw_only=True)
class EmbeddingCapabilities:
    """What a backend can do.

    dimension: the vectors' length, D.
    computes: False for a fake, whose vectors follow the letters and not the meaning.
    exact: a text has the same vector to the bit in every call and beside any other texts.
    """

    dimension: int
    computes: bool = True
    exact: bool = False


class EmbeddingClient(Port):
    """An embedding model. Calls are independent.

    A row is a function of its own text. Rows have L2 norm 1 (to 1e-5), so that a dot product is a cosine.
    """

    port_name: ClassVar[str] = "embedding_client"

    @abstractmethod
    def capabilities(self) -> EmbeddingCapabilities:
        """What this backend can do."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Future[NDArray[np.float32]]:
        """(N, D) float32 for N texts, in order; N may be 0.

        Raises (through the future):
            ValueError: if a text is empty or white space alone: it has no direction.
            PortError: if the backend fails; retryable for network trouble, a timeout, 429 and 5xx.
        """
