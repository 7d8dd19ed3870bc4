"""Where does a run's randomness come from? From (seed, purpose, indices), each its own independent stream.

Nothing here or anywhere else in a run touches a global generator, so no draw depends on what was drawn
before it, and a resumed run draws what the first one would have.
"""

import hashlib
import json

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """PCG64 over numpy's SeedSequence: the same for the same arguments, independent for any others.

    purpose: what is drawn, for example `shuffle`; indices: which one, for example the epoch.
    """
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, indices)))


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A seed for somebody else's generator, in 0 .. 2**31 - 1."""
    return int(_sequence(seed, purpose, indices).generate_state(1, np.uint32)[0] >> 1)


def _sequence(seed: int, purpose: str, indices: tuple[int, ...]) -> np.random.SeedSequence:
    # Hashed, because SeedSequence joins a list of integers into words: [2**32] and [0, 1] would be one stream.
    key = json.dumps([int(seed), purpose, *(int(index) for index in indices)])
    return np.random.SeedSequence(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
