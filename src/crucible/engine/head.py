# pyright: standard
# (torch's in-place methods are loosely typed)
"""What are the target tokens' logprobs, and the loss's gradient by the last hidden states?

Computed chunk by chunk with the analytic gradient, so that tokens x vocabulary numbers never exist at once:
for z = logits, l = log softmax(z)[target] and a loss f(l), df/dz = f'(l) (onehot(target) - softmax(z)).
The softmax is float32 whatever the model's dtype.

Shapes: N positions, H hidden, V vocabulary, R rank of the head's adapter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from crucible.engine.lora import LoraMatrices

Objective: TypeAlias = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""(logprobs (n,), which of the N positions they are) -> (elementwise loss (n,), its derivative by them (n,))."""

CHUNK_BYTES = 64 << 20
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
    """logprobs and losses (N,) float32; with a backward: d_hidden (N, H), and d_adapter float32 if the head has one."""

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

    hidden: (N, H) last hidden states, detached. targets: (N,) int64.
    """
    count, vocabulary = len(targets), head.weight.shape[0]
    logprobs = hidden.new_empty(count, dtype=torch.float32)
    losses = torch.empty_like(logprobs)
    d_hidden = torch.empty_like(hidden) if backward else None
    d_adapter = None
    if backward and adapter is not None:
        d_adapter = LoraMatrices(
            a=torch.zeros_like(adapter.a, dtype=torch.float32), b=torch.zeros_like(adapter.b, dtype=torch.float32)
        )
    rows = max(1, chunk_bytes // (4 * vocabulary))
    for start in range(0, count, rows):
        chunk = slice(start, min(start + rows, count))
        h, target = hidden[chunk], targets[chunk, None]
        down = None if adapter is None else h @ adapter.a.t()
        z, slope = _logits(head, h, down, adapter)
        normaliser = torch.logsumexp(z, dim=-1, keepdim=True)
        logprobs[chunk] = (z.gather(1, target) - normaliser)[:, 0]
        losses[chunk], derivative = objective(logprobs[chunk], chunk)
        if d_hidden is None:
            continue
        # z becomes softmax - onehot: minus the gradient of the logprob. The loss's derivative multiplies the
        # (n, H) product below instead of these (n, V) numbers.
        z.sub_(normaliser).exp_().scatter_add_(1, target, torch.full_like(normaliser, -1.0))
        if slope is not None:
            z.mul_(slope)
        dz = z.to(h.dtype)
        factor = (-head.scale * derivative)[:, None]
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
    return _logits(head, hidden, None, None)[0]


def _logits(head: Head, h: Tensor, down: Tensor | None, adapter: HeadAdapter | None) -> tuple[Tensor, Tensor | None]:
    """float32 logits (n, V) of a chunk, and the softcap's slope (n, V) where the head has one."""
    z = h @ head.weight.t() if head.bias is None else torch.addmm(head.bias, h, head.weight.t())
    if down is not None and adapter is not None:
        z.addmm_(down, adapter.b.t(), alpha=adapter.scale)
    z = z.float()
    if head.scale != 1.0:
        z.mul_(head.scale)
    if head.softcap is None:
        return z, None
    z.div_(head.softcap).tanh_()
    slope = 1 - z.square()
    return z.mul_(head.softcap), slope
