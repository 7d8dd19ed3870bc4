"""What is each loss, and its derivative by the logprobs, written out in numpy?

The formulas of `TrainingClient.forward_backward`, in float64: the training suite compares backends with them, and
the fake computes by them.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.errors import ConfigError, UnsupportedError

Array: TypeAlias = NDArray[np.float64]
Inputs: TypeAlias = Mapping[str, Array]
Config: TypeAlias = Mapping[str, float]
Formula: TypeAlias = Callable[[Array, Inputs, Config], tuple[Array, Array]]
"""(logprobs, the loss's tensors, its whole config) -> (elementwise loss, derivative by the logprobs)."""

LOW, HIGH = "clip_low_threshold", "clip_high_threshold"


def _cross_entropy(lp: Array, given: Inputs, _: Config) -> tuple[Array, Array]:
    return -lp * given["weights"], -given["weights"]


def _importance_sampling(lp: Array, given: Inputs, _: Config) -> tuple[Array, Array]:
    loss = -np.exp(lp - given["logprobs"]) * given["advantages"]
    return loss, loss


def _ppo(lp: Array, given: Inputs, config: Config) -> tuple[Array, Array]:
    return _clipped(np.exp(lp - given["logprobs"]), given["advantages"], config)


def _gspo(lp: Array, given: Inputs, config: Config) -> tuple[Array, Array]:
    mean = (lp - given["logprobs"])[given["sequence_ratio_mask"] != 0].mean()
    return _clipped(np.full(lp.shape, np.exp(mean)), given["advantages"], config)


def _clipped(ratio: Array, advantages: Array, config: Config) -> tuple[Array, Array]:
    free, clipped = ratio * advantages, ratio.clip(config[LOW], config[HIGH]) * advantages
    return -np.minimum(free, clipped), np.where(free <= clipped, -free, 0.0)


def _cispo(lp: Array, given: Inputs, config: Config) -> tuple[Array, Array]:
    derivative = -np.exp(lp - given["logprobs"]).clip(config[LOW], config[HIGH]) * given["advantages"]
    return derivative * lp, derivative


def _dro(lp: Array, given: Inputs, config: Config) -> tuple[Array, Array]:
    sampled = (given["logprobs"] != 0) | (given["advantages"] != 0)
    drift = lp - given["logprobs"]
    loss = config["beta"] / 2 * drift**2 - lp * given["advantages"]
    return loss * sampled, (config["beta"] * drift - given["advantages"]) * sampled


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "cross_entropy": _cross_entropy,
        "importance_sampling": _importance_sampling,
        "ppo": _ppo,
        "cispo": _cispo,
        "dro": _dro,
        "gspo": _gspo,
    }
)

DEFAULTS: Mapping[str, Config] = MappingProxyType(
    {
        "cross_entropy": {},
        "importance_sampling": {},
        "ppo": {LOW: 0.8, HIGH: 1.2},
        "cispo": {LOW: 0.0, HIGH: 4.0},
        "dro": {"beta": 0.05},
        "gspo": {LOW: 0.8, HIGH: 1.2},
    }
)
"""Every loss's whole config where none is given."""

TENSORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cross_entropy": ("weights",),
        "gspo": ("logprobs", "advantages", "sequence_ratio_mask"),
        **dict.fromkeys(("importance_sampling", "ppo", "cispo", "dro"), ("logprobs", "advantages")),
    }
)
"""What every loss reads beside `target_tokens`."""

TOPK = frozenset({"cross_entropy", "importance_sampling"})
"""The losses that take several targets at a position."""


def whole_config(loss_fn: str, given: Config | None) -> Config:
    """A loss's config with its defaults.

    Raises:
        UnsupportedError: if there is no such loss, or it has no such key.
        ConfigError: if a value is not finite or negative, or the low threshold is above the high.
    """
    if loss_fn not in FORMULAS:
        raise UnsupportedError.of("there is no such loss", given=loss_fn, fix=f"Use one of {', '.join(FORMULAS)}")
    config = {**DEFAULTS[loss_fn], **(given or {})}
    if unknown := sorted(config.keys() - DEFAULTS[loss_fn].keys()):
        raise UnsupportedError.of(f"{loss_fn} has no such setting", given=", ".join(unknown))
    if wrong := sorted(key for key, value in config.items() if not (math.isfinite(value) and value >= 0)):
        raise ConfigError.of("is not a finite number of at least 0", where=", ".join(wrong), given=config)
    if config.get(LOW, 0.0) > config.get(HIGH, math.inf):
        raise ConfigError.of(f"{LOW} is above {HIGH}", where=loss_fn, given=config)
    return config
