"""Where are the keys and values of what is being sampled?

A prompt's are held once, whatever number of sequences continue it; a sequence's own tokens are in the row of its slot.
All in float32: attention over them is computed in float32 in any model, and its few rows run fastest so.

Shapes: W slots, G key-value heads, P tokens of a prompt, C tokens that a slot has room for, D head size (keys and
values may differ in it).
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

BLOCK = 64
"""A slot's room, and the keys that attention looks at, are multiples of so many tokens."""

Pair: TypeAlias = tuple[Tensor, Tensor]


def blocks(tokens: int) -> int:
    """`tokens`, rounded up to whole blocks."""
    return -(-tokens // BLOCK) * BLOCK


class PromptKv:
    """The keys and values of a prompt's first P tokens: layer by layer, (1, G, P, D)."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.layers: list[Pair] = []

    def write(self, layer: int, key: Tensor, value: Tensor, *, start: int) -> Pair:
        """Take those of tokens from `start` on, (1, G, n, D); all up to there."""
        if layer == len(self.layers):
            self.layers.append((_room(key, self.length), _room(value, self.length)))
        end = start + key.shape[2]
        for into, new in zip(self.layers[layer], (key, value), strict=True):
            into[:, :, start:end] = new
        keys, values = self.layers[layer]
        return keys[:, :, :end], values[:, :, :end]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)


class SlotKv:
    """The slots' own keys and values: layer by layer, (W, G, C, D)."""

    def __init__(self) -> None:
        self.layers: list[Pair] = []
        self.width = self.capacity = 0

    def arrange(self, rows: Sequence[int | None], *, capacity: int) -> None:
        """Make row i what row rows[i] was (None: empty), with room for `capacity` tokens."""
        kept = min(capacity, self.capacity)
        to = [place for place, row in enumerate(rows) if row is not None]
        source = [row for row in rows if row is not None]

        def moved(old: Tensor) -> Tensor:
            new = old.new_zeros(len(rows), old.shape[1], capacity, old.shape[3])
            new[to, :, :kept] = old[source, :, :kept]
            return new

        self.layers = [(moved(keys), moved(values)) for keys, values in self.layers]
        self.width, self.capacity = len(rows), capacity

    def places(self, used: Sequence[int], heads: int) -> Tensor:
        """(W * G,) where `write` puts a token's keys, given the tokens in each slot, for G key-value heads."""
        rows = torch.arange(self.width)[:, None] * heads + torch.arange(heads)
        return (rows * self.capacity + torch.tensor(used)[:, None]).flatten()

    def write(self, layer: int, key: Tensor, value: Tensor, *, places: Tensor) -> Pair:
        """Take one token's for each slot, (1, G, W, D); the layer's, whole."""
        if layer == len(self.layers):
            self.layers.append((self._room(key), self._room(value)))
        for into, new in zip(self.layers[layer], (key, value), strict=True):
            flat = new[0].transpose(0, 1).reshape(-1, new.shape[-1]).float()
            into.view(-1, new.shape[-1]).index_copy_(0, places, flat)
        return self.layers[layer]

    def fill(self, row: int, prompt: PromptKv) -> None:
        """Put a prompt's tokens first in a slot."""
        if not self.layers:
            self.layers = [(self._room(keys), self._room(values)) for keys, values in prompt.layers]
        for pair, source in zip(self.layers, prompt.layers, strict=True):
            for into, from_prompt in zip(pair, source, strict=True):
                into[row, :, : prompt.length] = from_prompt[0]

    def clear(self, row: int) -> None:
        """Forget a slot's tokens: a hidden key takes no part, but what is no number would reach the others' sums."""
        for pair in self.layers:
            for tensor in pair:
                tensor[row] = 0

    def release(self) -> None:
        """Free everything."""
        self.layers, self.width, self.capacity = [], 0, 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(keys.nbytes + values.nbytes for keys, values in self.layers)

    def _room(self, like: Tensor) -> Tensor:
        shape = (self.width, like.shape[1], self.capacity, like.shape[3])
        return torch.zeros(shape, device=like.device)


def _room(like: Tensor, length: int) -> Tensor:
    return torch.zeros(1, like.shape[1], length, like.shape[3], device=like.device)
