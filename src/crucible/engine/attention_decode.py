# pyright: standard
# (transformers' models and mask functions are untyped)
"""How does a model attend to tokens that it read before? Through what is set here while it reads on.

Inside `reading(...)`, the models' attention (`attention.py`) is handed over: new keys and values are stored, and the
queries attend to all that was stored. This file has the reading of a prompt; `attention_slots.py` the decoding.
"""

import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from crucible.engine.kv_cache import PromptKv

MaskFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""transformers': batch, head, query position, key position -> whether the query sees the key."""


@dataclass(frozen=True)
class Visible:
    """What stands for a mask inside `reading`: what a `CachedAttention` needs for the layers of one kind."""

    keys: Any


class CachedAttention(Protocol):
    """Stores keys and values, and attends to those stored."""

    def visible(self, mask_function: MaskFunction, local_size: int | None) -> Visible:
        """Which keys the layers of one kind see. local_size: their window or chunk; None: they see all before."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
        """(1, H, T, D), (1, G, T, D), (1, G, T, Dv) of the next layer -> (1, T, H, Dv)."""
        ...


CACHED: ContextVar[CachedAttention | None] = ContextVar("crucible_cached_attention", default=None)


@contextmanager
def reading(attention: CachedAttention) -> Generator[None]:
    """Within: the model's one row of tokens is attended by `attention`."""
    token = CACHED.set(attention)
    try:
        yield
    finally:
        CACHED.reset(token)


class NoCache:
    """Stands for transformers' cache. With one, position ids that jump are not taken for packed sequences."""

    is_compileable = False

    def get_seq_length(self, *_: Any, **__: Any) -> int:
        """No tokens are in it."""
        return 0

    def get_query_offset(self, *_: Any, **__: Any) -> int:
        """Masks count from 0; ours are by position."""
        return 0

    def get_mask_sizes(self, query_length: int, *_: Any, **__: Any) -> tuple[int, int]:
        """Keys, and their first."""
        return query_length, 0

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Nothing is kept here."""
        return key, value


class PromptAttention:
    """Reads tokens `start` to `end` of a prompt, after those before them were read."""

    def __init__(self, kv: PromptKv, *, start: int, end: int) -> None:
        self._kv, self._start, self._end = kv, start, end
        self._layer = 0

    def visible(self, mask_function: MaskFunction, local_size: int | None) -> Visible:
        """See `CachedAttention`: (1, 1, T, end) bool, or None for a first chunk that sees all before."""
        near = local_size is None or self._end <= local_size
        if near and self._start == 0:
            return Visible(None)
        query, key = torch.arange(self._start, self._end)[:, None], torch.arange(self._end)[None]
        first = torch.zeros(1, dtype=torch.long)
        seen = key <= query if near else mask_function(first, first, query, key)
        return Visible(seen[None, None])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
        """See `CachedAttention`."""
        keys, values = self._kv.write(self._layer, key, value, start=self._start)
        self._layer += 1
        if self._start > 0:
            key, value = keys.to(query.dtype), values.to(query.dtype)
        seen = visible.keys
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if seen is None else seen.to(query.device),
            is_causal=seen is None,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        ).transpose(1, 2)


class PromptsAttention:
    """Reads some tokens of several prompts at once: rows end to end, those behind the last of no account.

    parts: each as if it were read alone.
    """

    def __init__(self, parts: Sequence[tuple[PromptKv, int, int]]) -> None:
        """parts: (keys and values, start, end)."""
        ends = itertools.accumulate(end - start for _, start, end in parts)
        self._rows = [slice(last - end + start, last) for last, (_, start, end) in zip(ends, parts, strict=True)]
        self._parts = [PromptAttention(kv, start=start, end=end) for kv, start, end in parts]

    def visible(self, mask_function: MaskFunction, local_size: int | None) -> Visible:
        """See `CachedAttention`: what each part sees."""
        return Visible([part.visible(mask_function, local_size) for part in self._parts])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
        """See `CachedAttention`."""
        output = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])
        for rows, part, seen in zip(self._rows, self._parts, visible.keys, strict=True):
            q, k, v = (each[:, :, rows].contiguous() for each in (query, key, value))
            output[:, rows] = part.attend(q, k, v, seen, scale)
        return output
