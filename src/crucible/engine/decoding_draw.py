"""How is the next token drawn from the model's logits?

In numpy and float64, so that the draw depends on the logits and the seed alone: no device, no torch version.
"""

import math

import numpy as np
from numpy.typing import NDArray

from crucible.ports.sampling_client import SamplingParams, TopLogprobs

_BLOCK = 256


def check_params(params: SamplingParams) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: naming every parameter that is out of range. (`stop` is `StopRule`'s to check.)
    """
    wrong: list[str] = []
    if params.max_tokens < 1:
        wrong.append(f"max_tokens must be at least 1, not {params.max_tokens}")
    if not (math.isfinite(params.temperature) and params.temperature >= 0):
        wrong.append(f"temperature must be 0 (greedy) or more, not {params.temperature}")
    if params.top_k < 1 and params.top_k != -1:
        wrong.append(f"top_k must be at least 1, or -1 for off, not {params.top_k}")
    if not 0 < params.top_p <= 1:
        wrong.append(f"top_p must be above 0 and at most 1, not {params.top_p}")
    if params.seed is not None and params.seed < 0:
        wrong.append(f"seed must be 0 or more, not {params.seed}")
    if wrong:
        raise ValueError("; ".join(wrong))


def generator(seed: np.random.SeedSequence, *key: int) -> np.random.Generator:
    """The random stream of sample `key`, one number: the same whatever the other samples are. Other streams that
    come of the seed have keys of two numbers."""
    child = np.random.SeedSequence(entropy=seed.entropy, spawn_key=key)
    return np.random.Generator(np.random.Philox(child))


class NextToken:
    """The model's distribution over the next token.

    logits: (V,).

    Raises:
        ArithmeticError: if the logits are not numbers.
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        top = logits.max()
        if not np.isfinite(top):
            raise ArithmeticError("the model's logits are not numbers: its weights or its adapter have diverged")
        self._below: NDArray[np.float64] = np.subtract(logits, top, dtype=np.float64)
        self._weights: NDArray[np.float64] = np.exp(self._below)
        self._normaliser = float(np.log(self._weights.sum()))

    def logprob(self, token: int) -> float:
        """Of a token, under the model's own distribution."""
        return float(self._below[token]) - self._normaliser

    def likeliest(self, count: int) -> TopLogprobs:
        """The `count` likeliest tokens and their log-probabilities, equals by id."""
        return tuple((int(token), self.logprob(int(token))) for token in _likeliest(self._below, count))

    def draw(self, params: SamplingParams, *, rng: np.random.Generator, known: int) -> int:
        """A token, from softmax(logits / temperature) among the `top_k` likeliest (of equals, the lower ids) and of
        those among the fewest that hold `top_p` of the probability (Holtzman et al., arXiv:1904.09751).

        known: ids from here on are padding of the embedding that no tokenizer can read, and are never drawn.
        """
        values, weights = self._below[:known], self._weights[:known]
        if params.temperature == 0:
            return int(values.argmax())
        top = float(values.max())
        if params.temperature != 1 or top < 0:
            with np.errstate(over="ignore"):  # a tiny temperature takes all but the likeliest to minus infinity
                weights = np.exp((values - top) / params.temperature)
        if params.top_k == -1 and params.top_p == 1:
            return _by_weight(weights, rng)
        ids = _likeliest(values, params.top_k)
        if params.top_p < 1:
            mass: NDArray[np.float64] = np.cumsum(weights[ids])
            ids = ids[: int(mass.searchsorted(params.top_p * float(mass[-1]))) + 1]
        return int(ids[_by_weight(weights[ids], rng)])


def _likeliest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Ids of the `count` largest (-1: of all), the largest first, equals by id."""
    candidates = np.arange(len(values))
    if 0 < count < len(values):
        candidates = np.flatnonzero(values >= np.partition(values, -count)[-count])
    order = candidates[np.argsort(-values[candidates], kind="stable")]
    return order if count == -1 else order[:count]


def _by_weight(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    """An index, with a probability in proportion to its weight (by inversion; a weight of 0 is never chosen).

    First its block, then its place there: a running sum takes ten times as long as a plain one.
    """
    sums: NDArray[np.float64] = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK))
    mass: NDArray[np.float64] = np.cumsum(sums)
    # rng.random() < 1, and a double times the next one below 1 rounds to less than itself: the block is in range.
    aim = rng.random() * float(mass[-1])
    block = int(mass.searchsorted(aim, side="right"))
    own = weights[block * _BLOCK : (block + 1) * _BLOCK]
    within: NDArray[np.float64] = np.cumsum(own)
    place = int(within.searchsorted(aim - float(mass[block - 1] if block else 0), side="right"))
    if place == len(own):  # the running sum ended a rounding below the block's
        place = int(np.flatnonzero(own)[-1])
    return block * _BLOCK + place
