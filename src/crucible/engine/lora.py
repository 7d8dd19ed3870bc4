# pyright: standard
# (torch's autograd functions are untyped)
"""How does one frozen model carry many LoRA adapters?

LoRA (Hu et al., arXiv:2106.09685): a linear layer x W^T gains s (x A^T) B^T with s = alpha / rank, where A
(rank, in) is drawn and B (out, rank) starts at zero. Every adaptable layer of the model becomes a `LoraLinear`
once; which adapter it applies is one pointer, the model's `ActiveAdapter`.

Shapes: T tokens, I in, O out, R rank.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from crucible.errors import CheckpointError

LayerKind: TypeAlias = Literal["attn", "mlp", "unembed"]

_ATTENTION = frozenset({"self_attn", "attn", "attention", "self_attention"})
_MLP = frozenset({"mlp", "feed_forward", "ffn", "fc1", "fc2", "shared_expert", "shared_experts", "experts"})


@dataclass(frozen=True, kw_only=True)
class LoraMatrices:
    """One layer's adapter: a (R, I) and b (O, R), float32."""

    a: Tensor
    b: Tensor

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """Views of both, (I, R) and (R, O), that carry no gradient."""
        return self.a.detach().t(), self.b.detach().t()


@dataclass(frozen=True, kw_only=True)
class LoraAdapter:
    """One adapter: float32 matrices by the name of the layer they adapt."""

    rank: int
    alpha: float
    layers: Mapping[str, LoraMatrices]

    @property
    def scale(self) -> float:
        """The factor alpha / rank."""
        return self.alpha / self.rank

    @property
    def parameters(self) -> list[Tensor]:
        """Every matrix, in the layers' order: a, b, a, b, ..."""
        return [matrix for layer in self.layers.values() for matrix in (layer.a, layer.b)]


class LinearProduct(Protocol):
    """Computes the layers in their place, as the sampler does for rows of different adapters."""

    def product(self, layer: "LoraLinear", input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """(..., I) -> (..., O)."""
        ...


class ActiveAdapter:
    """The adapter that a model's layers apply now; None is the base model. `instead` computes the
    layers, where it is set."""

    def __init__(self) -> None:
        self.adapter: LoraAdapter | None = None
        self.instead: LinearProduct | None = None

    @contextmanager
    def use(self, adapter: LoraAdapter | None) -> Generator[None]:
        """Within: the model computes with `adapter`."""
        before, self.adapter = self.adapter, adapter
        try:
            yield
        finally:
            self.adapter = before

    @contextmanager
    def use_instead(self, product: LinearProduct) -> Generator[None]:
        """Within: `product` computes the layers."""
        before, self.instead = self.instead, product
        try:
            yield
        finally:
            self.instead = before


class LoraLinear(nn.Linear):
    """A frozen linear layer that adds the active adapter's product. Shares the parameters of the one it replaces."""

    def __init__(self, linear: nn.Linear, *, name: str, active: ActiveAdapter) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.layer_name = name
        self._active = active

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """(..., I) -> (..., O)."""
        if self._active.instead is not None:
            return self._active.instead.product(self, input)
        adapter = self._active.adapter
        matrices = None if adapter is None else adapter.layers.get(self.layer_name)
        if matrices is None or adapter is None:
            return super().forward(input)
        # The casts are autograd's: in bfloat16 they bring the gradients back to the float32 matrices.
        a, b = matrices.a.to(input.dtype), matrices.b.to(input.dtype)
        return _LoraProduct.apply(input, self.weight, self.bias, a, b, adapter.scale)


class _LoraProduct(torch.autograd.Function):
    """y = x W^T + bias + s (x A^T) B^T; the frozen W and bias get no gradient, and only x and x A^T are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        down_TR = x_TI @ a.t()
        y_TO = x_TI @ weight.t() if bias is None else torch.addmm(bias, x_TI, weight.t())
        y_TO.addmm_(down_TR, b.t(), alpha=scale)
        ctx.save_for_backward(x_TI, down_TR, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return y_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (torch's stub says *grads: one output has one)
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        x_TI, down_TR, weight, a, b = ctx.saved_tensors
        grad_TO = grad.reshape(-1, grad.shape[-1])
        up_TR = (grad_TO @ b).mul_(ctx.scale)
        grad_a = up_TR.t() @ x_TI
        grad_b = (grad_TO.t() @ down_TR).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_TO @ weight).addmm_(up_TR, a).view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


def layer_kind(name: str) -> LayerKind | None:
    """Whether a module or parameter belongs to attention or to a feed-forward layer, by its path; None: neither."""
    for part in reversed(name.split(".")):
        if part in _ATTENTION:
            return "attn"
        if part in _MLP:
            return "mlp"
    return None


def new_adapter(
    layers: Sequence[LoraLinear], *, rank: int, alpha: float, seed: int, device: torch.device
) -> LoraAdapter:
    """A fresh adapter: A uniform in +-1/sqrt(I) (peft's kaiming_uniform with a = sqrt(5)), B zero.

    Drawn on the CPU from `seed` alone, so the same seed gives the same matrices on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    matrices: dict[str, LoraMatrices] = {}
    for layer in layers:
        bound = 1 / math.sqrt(layer.in_features)
        a = torch.empty(rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        b = torch.zeros(layer.out_features, rank)
        matrices[layer.layer_name] = LoraMatrices(a=a.to(device).requires_grad_(), b=b.to(device).requires_grad_())
    return LoraAdapter(rank=rank, alpha=alpha, layers=matrices)


def adapter_tensors(adapter: LoraAdapter) -> dict[str, Tensor]:
    """The matrices by peft's names."""
    tensors: dict[str, Tensor] = {}
    for name, layer in adapter.layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.a.detach()
        tensors[f"base_model.model.{name}.lora_B.weight"] = layer.b.detach()
    return tensors


def fill_adapter(adapter: LoraAdapter, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved tensors, by peft's names, into an adapter of the same layout.

    Raises:
        CheckpointError: if names or shapes differ; nothing is copied.
    """
    own = adapter_tensors(adapter)
    require_layout(tensors, own)
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def require_layout(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless `saved` has exactly the names and shapes of `own`."""
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    different = [name for name in sorted(shapes | expected) if shapes.get(name) != expected.get(name)]
    if different:
        name = different[0]
        raise CheckpointError.of(
            f"the checkpoint does not fit: {name} is {shapes.get(name, 'absent')} in it, "
            f"{expected.get(name, 'absent')} in the session",
            fix="Start the session with the checkpoint's rank and layers",
        )
