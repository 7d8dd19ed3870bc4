# pyright: standard
# (torch's autograd functions are untyped)
"""What is the gradient of packed attention in bfloat16 on a CPU?

PyTorch's fused CPU kernel has a fast forward, but up to some 500 tokens its backward in bfloat16 has twice the
cost of the one here, and twice the error. This one recomputes the scores in float32, a block of queries at a time,
and never those after the diagonal.

Shapes: H heads, G key-value heads, L tokens of one sequence, D head size, n queries of a block, e keys up to its end.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 512
"""Tokens of the longest sequence for which this gradient is the faster one."""

_QUERIES = 96
"""Queries in a block: fewer skip more of the upper triangle, more make larger matrix products."""


class PackedAttention(torch.autograd.Function):
    """Causal attention within each sequence of a row: (1, H, T, D), twice (1, G, T, D) -> (1, T, H, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: tuple[int, ...],
        blocks: tuple[Tensor | None, ...],
        scale: float,
    ) -> Tensor:
        """blocks: per sequence None (plainly causal) or a bool mask (1, 1, L, L)."""
        ctx.save_for_backward(query, key, value, *[block for block in blocks if block is not None])
        ctx.lengths, ctx.masked, ctx.scale = lengths, [block is not None for block in blocks], scale
        return torch.cat(attend(query, key, value, lengths, blocks, scale), dim=1)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (torch's stub says *grads: one output has one)
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        query, key, value, *masks = ctx.saved_tensors
        grads = [torch.empty_like(tensor) for tensor in (query, key, value)]
        start = 0
        for length, masked in zip(ctx.lengths, ctx.masked, strict=True):
            span = slice(start, start + length)
            parts = [tensor[0, :, span] for tensor in (query, key, value, grad.transpose(1, 2))]
            mask = masks.pop(0)[0, 0] if masked else None
            for into, part in zip(grads, _sequence_gradient(*parts, mask=mask, scale=ctx.scale), strict=True):
                into[0, :, span] = part
            start += length
        return (*grads, None, None, None)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    blocks: Sequence[Tensor | None],
    scale: float | None,
) -> list[Tensor]:
    """PyTorch's fused attention, sequence by sequence: a list of (1, L, H, D)."""
    # `split` and not slices: its backward is one concatenation.
    sequences = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    return [
        F.scaled_dot_product_attention(
            q, k, v, attn_mask=block, is_causal=block is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        ).transpose(1, 2)
        for (q, k, v), block in zip(sequences, blocks, strict=True)
    ]


def _sequence_gradient(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, *, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by one sequence's query (H, L, D), key and value (G, L, D), given the one by its output (H, L, D)."""
    dtype, length = query.dtype, query.shape[1]
    groups = (key.shape[0], query.shape[0] // key.shape[0])
    q_GgLD, d_out_GgLD = query.unflatten(0, groups), grad.unflatten(0, groups)
    q32_GgLD, k32_GLD = q_GgLD.float() * scale, key.float()
    k_GLD, v_GLD = key.contiguous(), value.contiguous()
    d_query = torch.empty_like(q_GgLD, memory_format=torch.contiguous_format)
    d_key, d_value = torch.zeros_like(k32_GLD), torch.zeros_like(k32_GLD)
    for start in range(0, length, _QUERIES):
        rows, keys = slice(start, min(start + _QUERIES, length)), slice(0, min(start + _QUERIES, length))

        def flat(tensor_GgLD: Tensor, rows: slice = rows) -> Tensor:
            return tensor_GgLD[:, :, rows].flatten(1, 2)

        d_q, d_k, d_v = block_gradient(
            flat(q_GgLD),
            k_GLD[:, keys],
            v_GLD[:, keys],
            flat(d_out_GgLD),
            q32=flat(q32_GgLD),
            k32=k32_GLD[:, keys],
            bias=hiding(_hidden(mask, rows, keys, device=query.device)),
        )
        d_value[:, keys] += d_v
        d_key[:, keys] += d_k
        d_query[:, :, rows] = d_q.unflatten(1, (groups[1], -1))
    return d_query.mul_(scale).flatten(0, 1), d_key.mul_(scale).to(dtype), d_value.to(dtype)


def block_gradient(
    query: Tensor, key: Tensor, value: Tensor, grad: Tensor, *, q32: Tensor, k32: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What a block of queries (G, Q * n, D) adds to the gradients by them and by the keys and values (G, e, D) that
    they see, Q = H / G; all before the scale, and of the product's dtype.

    q32: the queries, scaled, and k32: the keys, in float32. bias: (n, e) of `hiding`.
    """
    scores = torch.bmm(q32, k32.transpose(1, 2))
    scores.unflatten(1, (-1, len(bias))).add_(bias)
    p32 = scores.softmax(-1)
    d_p32 = torch.bmm(grad, value.transpose(1, 2)).float()
    d_scores = d_p32.sub_(torch.linalg.vecdot(d_p32, p32)[..., None]).mul_(p32).to(query.dtype)
    d_value = torch.bmm(p32.to(query.dtype).transpose(1, 2), grad)
    d_key = torch.bmm(d_scores.transpose(1, 2), query)
    return torch.bmm(d_scores, key), d_key, d_value


def hiding(hidden: Tensor) -> Tensor:
    """(n, e) bool, what each query must not see, as float32 to add to its scores: much faster than a masked fill."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)


def _hidden(mask: Tensor | None, rows: slice, keys: slice, *, device: torch.device) -> Tensor:
    """(n, e), True where a query must not see a key."""
    if mask is not None:
        return ~mask[rows, keys]
    places = torch.arange(keys.stop, device=device)
    return places[None, :] > places[rows, None]
