# pyright: standard
# (torch's autograd functions are untyped)
"""How does one pass through the frozen model serve several adapters in training? Each has its part of a row.

Shapes: T tokens, I in, O out, R rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crucible.engine.lora import LoraAdapter, LoraLinear


@dataclass(frozen=True, kw_only=True)
class MixedAdapters:
    """The adapters of a packed row's parts, to be set as `ActiveAdapter.instead`: the i-th applies to the tokens of
    spans[i]; the spans cover the row.
    """

    adapters: Sequence[LoraAdapter]
    spans: Sequence[tuple[int, int]]

    def product(self, layer: LoraLinear, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """(..., I) -> (..., O), of which each span gains its own adapter's product."""
        assert input.numel() == self.spans[-1][1] * layer.in_features, f"{layer.layer_name} reads a part of the row"
        parts: list[tuple[int, int, float]] = []
        factors: list[Tensor] = []
        for adapter, (start, end) in zip(self.adapters, self.spans, strict=True):
            if (matrices := adapter.layers.get(layer.layer_name)) is not None:
                parts.append((start, end, adapter.scale))
                # The casts are autograd's: in bfloat16 they bring the gradients back to the float32 matrices.
                factors += [matrices.a.to(input.dtype), matrices.b.to(input.dtype)]
        if not parts:
            return torch.nn.functional.linear(input, layer.weight, layer.bias)
        return _MixedProduct.apply(input, layer.weight, layer.bias, parts, *factors)


class _MixedProduct(torch.autograd.Function):
    """y = x W^T + bias, to which each part (start, end, scale) of the rows gains its own scale (x A^T) B^T."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, parts: list[tuple[int, int, float]], *factors: Tensor
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        y_TO = x_TI @ weight.t() if bias is None else torch.addmm(bias, x_TI, weight.t())
        downs: list[Tensor] = []
        for (start, end, scale), a, b in zip(parts, factors[::2], factors[1::2], strict=True):
            downs.append(x_TI[start:end] @ a.t())
            y_TO[start:end].addmm_(downs[-1], b.t(), alpha=scale)
        ctx.save_for_backward(x_TI, weight, *downs, *factors)
        ctx.parts, ctx.shape = parts, x.shape
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (torch's stub says *grads: one output has one)
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        x_TI, weight, *saved = ctx.saved_tensors
        downs, factors = saved[: len(ctx.parts)], saved[len(ctx.parts) :]
        grad_TO = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_TO @ weight if ctx.needs_input_grad[0] else None
        of_factors: list[Tensor] = []
        for (start, end, scale), down, a, b in zip(ctx.parts, downs, factors[::2], factors[1::2], strict=True):
            part = grad_TO[start:end]
            up = (part @ b).mul_(scale)
            of_factors += [up.t() @ x_TI[start:end], (part.t() @ down).mul_(scale)]
            if grad_x is not None:
                grad_x[start:end].addmm_(up, a)
        return None if grad_x is None else grad_x.view(ctx.shape), None, None, None, *of_factors
