"""What are the losses? Written out: each token's loss, and its derivative by the token's logprob.

l is the target's logprob, q the sampler's, A the advantage, r = exp(l - q). Source: the Tinker losses page; gspo is
Zheng et al., arXiv:2507.18071.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Formula: TypeAlias = Callable[[Array, Mapping[str, Array], Mapping[str, float]], tuple[Array, Array]]
"""(l, inputs, config) -> (elementwise loss, d loss / d l), each of l's shape."""


def cross_entropy(lp: Array, inputs: Mapping[str, Array], config: Mapping[str, float]) -> tuple[Array, Array]:
    """-l * w."""
    del config
    weights = inputs.get("weights", np.ones_like(lp))
    return -lp * weights, -weights


def importance_sampling(lp: Array, inputs: Mapping[str, Array], config: Mapping[str, float]) -> tuple[Array, Array]:
    """-r * A."""
    del config
    loss = -np.exp(lp - inputs["logprobs"]) * inputs["advantages"]
    return loss, loss


def ppo(lp: Array, inputs: Mapping[str, Array], config: Mapping[str, float]) -> tuple[Array, Array]:
    """-min(r * A, clip(r, low, high) * A); the thresholds are ratios."""
    ratio = np.exp(lp - inputs["logprobs"])
    return _clipped(ratio, inputs["advantages"], config)


def gspo(lp: Array, inputs: Mapping[str, Array], config: Mapping[str, float]) -> tuple[Array, Array]:
    """ppo with r replaced by s = exp(mean of l - q over the sequence); its derivative by each l is s."""
    mask = inputs["sequence_ratio_mask"]
    ratio = np.exp(((lp - inputs["logprobs"]) * mask).sum() / mask.sum())
    loss, derivative = _clipped(np.full_like(lp, ratio), inputs["advantages"], config)
    return loss, derivative


def _clipped(ratio: Array, advantages: Array, config: Mapping[str, float]) -> tuple[Array, Array]:
    low, high = config.get("clip_low_threshold", 0.8), config.get("clip_high_threshold", 1.2)
    free, held = ratio * advantages, np.clip(ratio, low, high) * advantages
    # Outside the thresholds the clipped branch is a constant; where both are equal the ratio is inside.
    return -np.minimum(free, held), np.where(free <= held, -free, 0.0)


def cispo(lp: Array, inputs: Mapping[str, Array], config: Mapping[str, float]) -> tuple[Array, Array]:
    """-sg(clip(r, low, high)) * l * A."""
    low, high = config.get("clip_low_threshold", 0.0), config.get("clip_high_threshold", 4.0)
    held = np.clip(np.exp(lp - inputs["logprobs"]), low, high) * inputs["advantages"]
    return -held * lp, -held


def dro(lp: Array, inputs: Mapping[str, Array], config: Mapping[str, float]) -> tuple[Array, Array]:
    """-(l * A - beta / 2 * (l - q) ** 2)."""
    beta, gap = config.get("beta", 0.05), lp - inputs["logprobs"]
    return -(lp * inputs["advantages"] - beta / 2 * gap**2), -(inputs["advantages"] - beta * gap)
