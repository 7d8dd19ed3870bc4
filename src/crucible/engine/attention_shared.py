# pyright: standard
# (torch's autograd functions and transformers' mask functions are untyped)
"""How do the sequences of a prefix tree attend, each to its own beginning, with gradients through what they share?

The row is cut into blocks of queries. A block reads the keys that any of its queries sees, in one product for all heads
that share them, and a bias hides from each query the others'. So a group's completions read their prompt together, and
a long completion does not pay for its neighbours'. Scores are computed again for the backward pass.

Shapes: H heads, G key-value heads, Q = H / G, T tokens of the row, D head size, n queries of a block, e its keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crucible.engine.attention_decode import MaskFunction, Visible
from crucible.engine.attention_gradient import block_gradient, hiding
from crucible.engine.prefix_tree import PrefixTree

_QUERIES = 96
"""Most queries in a block: fewer see fewer keys in vain, more make larger matrix products."""

_LEAST_QUERIES = 16

_LONG = 1024
"""Tokens of a row from which on its blocks are smaller, and their biases made anew for every layer."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Queries [start, end) and the e keys that any of them sees.

    keys: their places (e,), as a slice if that is what they are. until: (e,), see `PrefixTree`. kept: the bias, where
    it is not made anew for every layer.
    """

    start: int
    end: int
    keys: Tensor | slice
    until: Tensor
    kept: Tensor | None

    def bias(self) -> Tensor:
        """(n, e) of `hiding`, what hides from each query the others' keys."""
        if self.kept is not None:
            return self.kept
        device, keys = self.until.device, self.keys
        places = torch.arange(keys.start, keys.stop, device=device) if isinstance(keys, slice) else keys
        rows = torch.arange(self.start, self.end, device=device)[:, None]
        return hiding((places > rows) | (rows >= self.until))


class TreeAttention:
    """A `CachedAttention` that keeps nothing: the row holds all that is attended to."""

    def __init__(self, tree: PrefixTree, *, device: torch.device) -> None:
        self._tree, self._device = tree, device
        self._deepest = int(tree.positions.max(initial=0)) + 1
        self._full: list[Block] | None = None

    def visible(self, mask_function: MaskFunction, local_size: int | None) -> Visible:
        """See `CachedAttention`: the blocks."""
        if local_size is not None and self._deepest > local_size:
            return Visible(self._blocks(mask_function))
        if self._full is None:
            self._full = self._blocks(None)
        return Visible(self._full)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
        """See `CachedAttention`."""
        return SharedAttention.apply(query, key, value, visible.keys, scale)

    def _blocks(self, mask_function: MaskFunction | None) -> list[Block]:
        tree, device, blocks = self._tree, self._device, []
        until, positions = torch.from_numpy(tree.until), torch.from_numpy(tree.positions)
        start = 0
        while start < len(tree.tokens):
            end = min(start + _queries(start), len(tree.tokens))
            rows, places = torch.arange(start, end)[:, None], torch.arange(end)[None]
            seen = (places <= rows) & (rows < until[None, :end])
            if mask_function is not None:
                first = torch.zeros(1, dtype=torch.long)
                seen &= mask_function(first, first, positions[start:end, None], positions[None, :end])
            keys = seen.any(dim=0).nonzero()[:, 0]
            keep = mask_function is not None or len(tree.tokens) <= _LONG
            kept = hiding(~seen[:, keys]).to(device) if keep else None
            blocks.append(
                Block(start=start, end=end, keys=_as_slice(keys, device), until=until[keys].to(device), kept=kept)
            )
            start = end
        return blocks


def _queries(start: int) -> int:
    """Queries in the block that begins here: in a long row fewer, so that a block's scores stay few megabytes."""
    return max(_LEAST_QUERIES, min(_QUERIES, _QUERIES * _LONG // max(1, start)))


def _as_slice(keys: Tensor, device: torch.device) -> Tensor | slice:
    first, last = int(keys[0]), int(keys[-1])
    return slice(first, last + 1) if last - first + 1 == len(keys) else keys.to(device)


class SharedAttention(torch.autograd.Function):
    """(1, H, T, D), (1, G, T, D), (1, G, T, Dv) -> (1, T, H, Dv)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, blocks: Sequence[Block], scale: float) -> Tensor:
        """blocks: of all queries, in their order."""
        ctx.save_for_backward(query, key, value)
        ctx.blocks, ctx.scale = blocks, scale
        groups = key.shape[1]
        output = query.new_empty(1, query.shape[2], query.shape[1], value.shape[3])
        for block in blocks:
            # The query heads that share keys lie one after the other, as more queries: no key is repeated.
            rows = query[0, :, block.start : block.end].unflatten(0, (groups, -1))
            found = F.scaled_dot_product_attention(
                rows.flatten(1, 2)[None],
                key[:, :, block.keys],
                value[:, :, block.keys],
                attn_mask=block.bias().to(query.dtype).repeat(rows.shape[1], 1),
                scale=scale,
            )[0]
            output[0, block.start : block.end] = found.unflatten(1, rows.shape[1:3]).permute(2, 0, 1, 3).flatten(1, 2)
        return output

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (torch's stub says *grads: one output has one)
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        scale, groups = ctx.scale, (key.shape[1], query.shape[1] // key.shape[1])
        d_query = torch.empty_like(query)
        d_key, d_value = (torch.zeros(t[0].shape, dtype=torch.float32, device=t.device) for t in (key, value))
        grads = grad[0].transpose(0, 1)
        for block in ctx.blocks:
            rows, keys = slice(block.start, block.end), block.keys
            q, d_out = (t[:, rows].unflatten(0, groups).flatten(1, 2) for t in (query[0], grads))
            k, v = key[0, :, keys], value[0, :, keys]
            d_q, d_k, d_v = block_gradient(q, k, v, d_out, q32=q.float() * scale, k32=k.float(), bias=block.bias())
            d_query[0, :, rows] = d_q.unflatten(1, (groups[1], -1)).flatten(0, 1)
            # A block's keys are different places: each gets one sum, in the blocks' order.
            d_key[:, keys] += d_k
            d_value[:, keys] += d_v
        d_query.mul_(scale)
        return d_query, d_key.mul_(scale).to(key.dtype)[None], d_value.to(value.dtype)[None], None, None
