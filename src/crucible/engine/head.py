# pyright: standard
# (torch's in-place methods are loosely typed)
"""What are the target tokens' logprobs, and the loss's gradient by the last hidden states?

Computed chunk by chunk with the analytic gradient, so that tokens x vocabulary numbers never exist at once:
for z = logits, l = log softmax(z)[target] and a loss f(l), df/dz = f'(l) (onehot(target) - softmax(z)); with K
targets at a position, the sum of that over them. The softmax is float32 whatever the model's dtype.

Shapes: N positions, K targets at each, H hidden, V vocabulary, R rank of the head's adapter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from crucible.engine.lora import LoraMatrices

Objective: TypeAlias = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""(logprobs (n,), which of the N positions they are) -> (elementwise loss (n,), its derivative by them (n,)); or (n, K)
where the targets are (N, K)."""

CHUNK_BYTES = 32 << 20
"""Memory of one chunk's float32 logits. Larger reads the head's weights less often; smaller stays in cache."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """A model's unembedding: z = scale * (h W^T + bias), then softcap * tanh(z / softcap) where there is one.

    weight: (V, H). bias: (V,) or None.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None


@dataclass(frozen=True, kw_only=True)
class HeadAdapter:
    """The head's adapter, in the model's dtype, and its factor."""

    a: Tensor
    b: Tensor
    scale: float


@dataclass(frozen=True, kw_only=True)
class HeadScores:
    """logprobs and losses, of the targets' shape, float32; with a backward: d_hidden (N, H), and d_adapter float32 if
    the head has one."""

    logprobs: Tensor
    losses: Tensor
    d_hidden: Tensor | None = None
    d_adapter: LoraMatrices | None = None


def score_positions(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    objective: Objective,
    *,
    adapter: HeadAdapter | None = None,
    backward: bool,
    chunk_bytes: int = CHUNK_BYTES,
) -> HeadScores:
    """Score N positions.

    hidden: (N, H) last hidden states, detached. targets: (N,) or (N, K) int64.
    """
    count, single = len(targets), targets.ndim == 1
    logprobs = hidden.new_empty(targets.shape, dtype=torch.float32)
    losses = torch.empty_like(logprobs)
    d_hidden = torch.empty_like(hidden) if backward else None
    d_adapter = None
    if backward and adapter is not None:
        d_adapter = LoraMatrices(
            a=torch.zeros_like(adapter.a, dtype=torch.float32), b=torch.zeros_like(adapter.b, dtype=torch.float32)
        )
    rows = min(count, max(1, chunk_bytes // (4 * len(head.weight))))
    buffers = _Buffers.of(head, rows)
    for start in range(0, count, max(1, rows)):
        chunk = slice(start, min(start + rows, count))
        h, target = hidden[chunk], targets[chunk, None] if single else targets[chunk]
        down = None if adapter is None else h @ adapter.a.t()
        z, slope = _logits(head, h, down, adapter, buffers)
        top, z_target = z.amax(dim=1, keepdim=True).float(), z.gather(1, target).float()
        weight = buffers.full[: len(h)].copy_(z).sub_(top).exp_()
        total = weight.sum(dim=1, keepdim=True)
        logprobs[chunk] = (z_target - top - total.log()).view(logprobs[chunk].shape)
        losses[chunk], derivative = objective(logprobs[chunk], chunk)
        if d_hidden is None:
            continue
        # total * (softmax - onehot), which is -total times the logprob's gradient: the factor, the loss's derivative
        # among it, then multiplies (n, H) numbers and not these (n, V). Only several derivatives must go in here.
        factor = -head.scale / total
        if single:
            weight.scatter_add_(1, target, -total)
            factor = derivative[:, None] * factor
        else:
            weight.mul_(derivative.sum(dim=1, keepdim=True)).scatter_add_(1, target, derivative * -total)
        if slope is not None:
            weight.mul_(slope)
        dz = buffers.raw[: len(h)].copy_(weight)
        d_chunk = dz @ head.weight
        if adapter is not None and down is not None and d_adapter is not None:
            up = (dz @ adapter.b).mul_(adapter.scale)
            d_chunk.addmm_(up, adapter.a)
            d_adapter.a.add_((up * factor).to(h.dtype).t() @ h)
            d_adapter.b.add_(dz.t() @ (down * factor).to(h.dtype), alpha=adapter.scale)
        torch.mul(d_chunk, factor, out=d_hidden[chunk])
    return HeadScores(logprobs=logprobs, losses=losses, d_hidden=d_hidden, d_adapter=d_adapter)


def head_logits(head: Head, hidden: Tensor) -> Tensor:
    """(N, H) last hidden states -> float32 logits (N, V) of the unadapted head."""
    return _logits(head, hidden, None, None, _Buffers.of(head, len(hidden)))[0].float()


@dataclass(frozen=True)
class _Buffers:
    """Memory for one chunk's (n, V) numbers, used again by the next: in the head's dtype, and in float32.

    For a float32 head they are the same memory.
    """

    raw: Tensor
    full: Tensor

    @classmethod
    def of(cls, head: Head, rows: int) -> "_Buffers":
        raw = head.weight.new_empty(rows, len(head.weight))
        return cls(raw, raw if raw.dtype == torch.float32 else torch.empty_like(raw, dtype=torch.float32))


def _logits(
    head: Head, h: Tensor, down: Tensor | None, adapter: HeadAdapter | None, buffers: _Buffers
) -> tuple[Tensor, Tensor | None]:
    """A chunk's logits (n, V), in one of the buffers, and the softcap's slope (n, V) where the head has one."""
    raw = buffers.raw[: len(h)]
    z = torch.mm(h, head.weight.t(), out=raw)
    if head.bias is not None:
        z.add_(head.bias)
    if down is not None and adapter is not None:
        z.addmm_(down, adapter.b.t(), alpha=adapter.scale)
    if head.scale == 1.0 and head.softcap is None:
        return z, None
    z = torch.mul(z, head.scale, out=buffers.full[: len(h)])
    if head.softcap is None:
        return z, None
    z.div_(head.softcap).tanh_()
    slope = 1 - z.square()
    return z.mul_(head.softcap), slope
