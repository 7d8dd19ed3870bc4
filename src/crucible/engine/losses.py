"""What does each loss ask of a datum, and what are its value and derivative at one position?

Every loss here is elementwise in the target token's logprob l, so it is one row of a table. All are
sum-reduced. Nothing here imports torch: the functions use the tensors' own methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

LossInputs: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss.

    inputs: float tensors it reads beside `target_tokens`, with the value that stands for a missing one (None:
        it must be given).
    config: keys of its config, with their defaults.
    active: of the inputs (N,), the positions whose loss is not zero whatever the logprob is.
    elementwise: (l (n,), inputs (n,), config) -> (loss (n,), derivative by l (n,)), float32.
    """

    inputs: Mapping[str, float | None]
    config: Mapping[str, float]
    active: Callable[[Mapping[str, NDArray[np.float32]]], NDArray[np.bool_]]
    elementwise: Callable[[Tensor, LossInputs, Mapping[str, float]], tuple[Tensor, Tensor]]


def _cross_entropy(logprobs: Tensor, inputs: LossInputs, _: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """loss = -l * weight. Source: the Tinker losses page."""
    derivative = -inputs["weights"]
    return logprobs * derivative, derivative


def _weighted(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return inputs["weights"] != 0


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {"cross_entropy": Loss(inputs={"weights": 1.0}, config={}, active=_weighted, elementwise=_cross_entropy)}
)
"""Every loss by the name that `loss_fn` takes."""
