# pyright: standard
# (calls operators that torch does not type)
"""How does the frozen base model multiply a few rows quickly?

Decoding reads every weight for a few rows, so it is bound by memory, and PyTorch's CPU kernels lay a plain weight
out anew in every call. Laid out once, by oneDNN, the product takes half the time (SmolLM2-135M, 8 rows, one core of an
EPYC with AVX-512: 47 ms to 28 in bfloat16, 85 to 40 in float32, head excluded), and a row's bits no longer depend on
how many rows there are. The price is a copy of the weights, which the sampler shows as `packed_bytes`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crucible.engine.lora import LoraLinear
from crucible.engine.model import LoadedModel

_ROWS = 8
"""Rows that the layout is chosen for. A constant: other layouts may give other bits."""


class PackedWeights:
    """The base model's linear weights as oneDNN wants them, by layer; a layer that it cannot pack stays as it is."""

    def __init__(self, loaded: LoadedModel, *, pack: bool = True) -> None:
        self._packed: dict[str, Any] = {}
        self.nbytes = 0
        if not (pack and _packs(loaded.device, loaded.head.weight.dtype)):
            return
        for layers in loaded.layers.values():
            for layer in layers:
                self._packed[layer.layer_name] = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _ROWS)
                self.nbytes += layer.weight.nbytes
        self._multiply = torch.ops.mkldnn._linear_pointwise.default  # without the search for an overload

    def product(self, layer: LoraLinear, rows: Tensor) -> Tensor:
        """(N, I) -> (N, O): x W^T + bias."""
        packed = self._packed.get(layer.layer_name)
        if packed is None:
            return F.linear(rows, layer.weight, layer.bias)
        return self._multiply(rows, packed, layer.bias, "none", [], "")


def _packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of PyTorch has the operators, and they compute what a linear layer does."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    rows, weight = torch.linspace(-1, 1, 96).view(4, 24).to(dtype), torch.linspace(-1, 1, 768).view(32, 24).to(dtype)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        ours = torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(ours, F.linear(rows, weight), rtol=1e-2, atol=1e-2)
