"""What does each loss ask of a datum, and what are its value and derivative at one target?

Every loss here is elementwise in the target token's logprob l, gspo's once its sequence's ratio is known, so each
is one row of a table. All are sum-reduced. Nothing here imports torch: the functions use the tensors' own methods.

In the formulas q is `logprobs`, the sampler's; A is `advantages`; r = exp(l - q); sg means "no gradient".
Formulas and defaults: the Tinker losses pages (https://tinker-docs.thinkingmachines.ai/tinker/losses).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.errors import ConfigError, Problem, UnsupportedError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

LossInputs: TypeAlias = "Mapping[str, Tensor]"
LossConfig: TypeAlias = Mapping[str, float]

LOW, HIGH = "clip_low_threshold", "clip_high_threshold"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss.

    inputs: float tensors it reads beside `target_tokens`, with the value that stands for a missing one (None:
        it must be given).
    elementwise: (l (n,), inputs (n,), config) -> (loss (n,), derivative by l (n,)), float32; with `topk` also (n, K).
    active: of the inputs, the targets whose loss or derivative may not be zero.
    config: keys of its config, with their defaults.
    topk: takes K targets at a position.
    sequence_ratio: the input that marks the positions of a sequence over which the mean of l - q is taken;
        `elementwise` gets that mean as the input `sequence_log_ratio`.
    """

    inputs: Mapping[str, float | None]
    elementwise: Callable[[Tensor, LossInputs, LossConfig], tuple[Tensor, Tensor]]
    active: Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.bool_]]
    config: LossConfig = field(default_factory=dict[str, float])
    topk: bool = False
    sequence_ratio: str | None = None


def loss_named(name: str) -> Loss:
    """The loss of that name.

    Raises:
        UnsupportedError: if there is none.
    """
    if name not in LOSSES:
        raise UnsupportedError.of("this engine has no such loss", given=name, fix=did_you_mean(name, LOSSES))
    return LOSSES[name]


def loss_config(name: str, given: Mapping[str, float] | None) -> dict[str, float]:
    """A loss's whole config: its defaults, and what was given.

    Raises:
        UnsupportedError: if there is no such loss, or it has no such key.
        ConfigError: if a value is not finite, a threshold or beta is negative, or the low threshold is above the high.
    """
    known, asked = loss_named(name).config, dict(given or {})
    if unknown := sorted(asked.keys() - known.keys()):
        raise UnsupportedError(
            [Problem(what=f"{name} has no such setting", given=key, fix=did_you_mean(key, known)) for key in unknown]
        )
    config = {**known, **asked}
    what = "is not a finite number of at least 0"
    wrong = [
        Problem(what=what, where=f"{name}'s {key}", given=repr(value))
        for key, value in config.items()
        if not _is_finite(value) or value < 0
    ]
    if not wrong and config.get(LOW, 0.0) > config.get(HIGH, math.inf):
        wrong = [Problem(what=f"{LOW} is above {HIGH}", where=name, given=f"{config[LOW]} and {config[HIGH]}")]
    if wrong:
        raise ConfigError(wrong)
    return config


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _cross_entropy(logprobs: Tensor, inputs: LossInputs, _: LossConfig) -> tuple[Tensor, Tensor]:
    """loss = -l * weight."""
    derivative = -inputs["weights"]
    return logprobs * derivative, derivative


def _importance_sampling(logprobs: Tensor, inputs: LossInputs, _: LossConfig) -> tuple[Tensor, Tensor]:
    """loss = -r * A, which is its own derivative."""
    advantages = inputs["advantages"]
    # Of K targets some may have no advantage: their ratio could be beyond float32, and infinity times 0 is no number.
    drift = (logprobs - inputs["logprobs"]).masked_fill(advantages == 0, 0.0)
    loss = -drift.exp() * advantages
    return loss, loss


def _ppo(logprobs: Tensor, inputs: LossInputs, config: LossConfig) -> tuple[Tensor, Tensor]:
    """loss = -min(r * A, clip(r) * A) (Schulman et al., arXiv:1707.06347)."""
    return _clipped((logprobs - inputs["logprobs"]).exp(), inputs["advantages"], config)


def _gspo(_: Tensor, inputs: LossInputs, config: LossConfig) -> tuple[Tensor, Tensor]:
    """ppo's with the sequence's ratio s = exp(mean of l - q) for r (GSPO-token; Zheng et al., arXiv:2507.18071).

    s is a value; the gradient is that of s * exp(l - sg(l)), whose derivative by l is s.
    """
    return _clipped(inputs["sequence_log_ratio"].exp(), inputs["advantages"], config)


def _clipped(ratio: Tensor, advantages: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """-min(ratio * A, clip(ratio) * A), and its derivative where d ratio / d l is the ratio."""
    free, clipped = ratio * advantages, ratio.clamp(config[LOW], config[HIGH]) * advantages
    return -free.minimum(clipped), -free.masked_fill(free > clipped, 0.0)


def _cispo(logprobs: Tensor, inputs: LossInputs, config: LossConfig) -> tuple[Tensor, Tensor]:
    """loss = -sg(clip(r)) * l * A (MiniMax, arXiv:2506.13585)."""
    ratio = (logprobs - inputs["logprobs"]).exp()
    derivative = -ratio.clamp(config[LOW], config[HIGH]) * inputs["advantages"]
    return logprobs * derivative, derivative


def _dro(logprobs: Tensor, inputs: LossInputs, config: LossConfig) -> tuple[Tensor, Tensor]:
    """loss = -(l * A - beta / 2 * (l - q)^2) (Richemond et al., arXiv:2405.19107)."""
    drift, advantages, beta = logprobs - inputs["logprobs"], inputs["advantages"], config["beta"]
    return drift.square() * (0.5 * beta) - logprobs * advantages, drift * beta - advantages


def _weighted(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return inputs["weights"] != 0


def _with_advantage(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return inputs["advantages"] != 0


def _sampled(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """All but what has neither a logprob nor an advantage: so RL data marks the tokens that were not sampled.

    dro's quadratic term would otherwise pull every token of the prompt to probability 1.
    """
    return (inputs["logprobs"] != 0) | (inputs["advantages"] != 0)


_OF_SAMPLES: Mapping[str, float | None] = {"logprobs": None, "advantages": None}

LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "cross_entropy": Loss(inputs={"weights": 1.0}, elementwise=_cross_entropy, active=_weighted, topk=True),
        "importance_sampling": Loss(
            inputs=_OF_SAMPLES, elementwise=_importance_sampling, active=_with_advantage, topk=True
        ),
        "ppo": Loss(inputs=_OF_SAMPLES, elementwise=_ppo, active=_with_advantage, config={LOW: 0.8, HIGH: 1.2}),
        "cispo": Loss(inputs=_OF_SAMPLES, elementwise=_cispo, active=_with_advantage, config={LOW: 0.0, HIGH: 4.0}),
        "dro": Loss(inputs=_OF_SAMPLES, elementwise=_dro, active=_sampled, config={"beta": 0.05}),
        "gspo": Loss(
            inputs={**_OF_SAMPLES, "sequence_ratio_mask": None},
            elementwise=_gspo,
            active=_with_advantage,
            config={LOW: 0.8, HIGH: 1.2},
            sequence_ratio="sequence_ratio_mask",
        ),
    }
)
"""Every loss by the name that `loss_fn` takes."""
