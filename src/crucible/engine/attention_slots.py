# pyright: standard
# (mask functions are untyped)
"""How does one new token of each slot attend to its prompt and to its own tokens, with bits of its own?

A sequence's attention is in two parts, over its prompt, which others may share, and over its own tokens, joined by
their log-sum-exp (as in Flash-Decoding). Each part is computed in float32 so that a row's bits depend neither on the
other rows, nor on how many there are, nor on hidden keys after the row's own (`decoding_probe.py` checks all three).
So sequences of one prompt are multiplied together, and so are all slots.

Shapes: W slots, H heads, G key-value heads, Q = H / G, P keys of a prompt, N keys of a slot, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crucible.engine.attention_decode import MaskFunction, Visible
from crucible.engine.attention_part import HIDDEN, Part, over_keys, over_prompt
from crucible.engine.kv_cache import PromptKv, SlotKv, blocks

SHORTEST_PROMPT = 64
"""Tokens of the shortest prompt that is shared; a shorter one is copied to each slot, where its keys cost less than a
second part of attention."""

_RUN = 8
"""Slots whose own tokens are multiplied together: each is as costly as the longest."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The slots that continue one prompt."""

    prompt: PromptKv
    slots: Sequence[int]


class SlotAttention:
    """One decoding step.

    used: tokens already in each slot (W,). offsets: the position of each slot's first token (W,).
    """

    def __init__(
        self,
        kv: SlotKv,
        *,
        used: Sequence[int],
        offsets: Sequence[int],
        groups: Sequence[Group],
        device: torch.device,
    ) -> None:
        self._kv, self._used, self._groups, self._device = kv, used, groups, device
        self._layer = 0
        self._places: Tensor | None = None
        last, self._offsets = torch.tensor(used), torch.tensor(offsets)
        self._positions = self._offsets + last
        self._runs = [slice(start, min(start + _RUN, len(used))) for start in range(0, len(used), _RUN)]
        self._keys = [blocks(max(used[run]) + 1) for run in self._runs]
        self._unwritten = torch.arange(max(self._keys))[None] > last[:, None]
        slots = [slot for group in groups for slot in group.slots]
        self._order = None if slots == list(range(len(used))) else torch.tensor(slots, device=device)

    @property
    def positions(self) -> Tensor:
        """(W,) of the new tokens."""
        return self._positions

    def visible(self, mask_function: MaskFunction, local_size: int | None) -> Visible:
        """See `CachedAttention`: biases of own keys by run (w, 1, 1, N), and of prompts' by group (n or 1, P)."""
        unwritten = self._unwritten
        if local_size is None or int(self._positions.max()) < local_size:
            prompts = [group.prompt.unwritten for group in self._groups]
        else:
            first = torch.zeros(1, dtype=torch.long)
            own = self._offsets[:, None] + torch.arange(unwritten.shape[1])
            unwritten = unwritten | ~mask_function(first, first, self._positions[:, None], own)
            prompts = [self._unseen(group, mask_function) for group in self._groups]
        bias = _bias(unwritten, self._device)[:, None, None]
        runs = [bias[run, :, :, :count] for run, count in zip(self._runs, self._keys, strict=True)]
        return Visible((runs, [_bias(hidden, self._device) for hidden in prompts]))

    def _unseen(self, group: Group, mask_function: MaskFunction) -> Tensor:
        first, unwritten = torch.zeros(1, dtype=torch.long), group.prompt.unwritten
        query = self._positions[list(group.slots)][:, None]
        return unwritten | ~mask_function(first, first, query, torch.arange(unwritten.shape[1])[None])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
        """See `CachedAttention`."""
        layer, self._layer = self._layer, self._layer + 1
        heads = key.shape[1]
        if self._places is None:
            self._places = self._kv.places(self._used, heads).to(self._device)
        keys, values = self._kv.write(layer, key, value, places=self._places)
        q = query[0].float().unflatten(0, (heads, -1)).permute(2, 0, 1, 3)
        runs, prompts = visible.keys
        own = self._over_own(q, keys, values, runs, scale)
        if self._groups:
            prompt = self._over_prompts(q, layer, prompts, scale)
            output = _joined(own, prompt)
        else:
            output = own.output
        return output.flatten(1, 2)[None].to(query.dtype)

    def _over_own(self, q: Tensor, keys: Tensor, values: Tensor, biases: Sequence[Tensor], scale: float) -> Part:
        parts = [
            over_keys(q[run], keys[run, :, :count], values[run, :, :count], bias, scale)
            for run, count, bias in zip(self._runs, self._keys, biases, strict=True)
        ]
        return _stacked(parts)

    def _over_prompts(self, q: Tensor, layer: int, biases: Sequence[Tensor], scale: float) -> Part:
        order = self._order
        rows = q if order is None else q[order]
        parts: list[Part] = []
        start = 0
        for group, bias in zip(self._groups, biases, strict=True):
            count = len(group.slots)
            keys, values = group.prompt.layers[layer]
            parts.append(over_prompt(rows[start : start + count], keys, values, bias, scale))
            start += count
        found = _stacked(parts)
        if order is None:
            return found
        output = q.new_zeros(*q.shape[:3], found.output.shape[3]).index_copy_(0, order, found.output)
        return Part(output, q.new_full(q.shape[:3], HIDDEN).index_copy_(0, order, found.total))


def _bias(hidden: Tensor, device: torch.device) -> Tensor:
    """0 where a key is seen, else `HIDDEN`."""
    return torch.zeros(hidden.shape).masked_fill_(hidden, HIDDEN).to(device)


def _joined(own: Part, prompt: Part) -> Tensor:
    """The normalised sum of both parts. No sigmoid and no lerp: PyTorch computes the last few numbers of a tensor with
    other instructions than the rest, which round these two in another way."""
    share = torch.sub(prompt.total, own.total).exp_().add_(1).reciprocal_()
    return torch.sub(own.output, prompt.output).mul_(share[..., None]).add_(prompt.output)


def _stacked(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return Part(torch.cat([part.output for part in parts]), torch.cat([part.total for part in parts]))
