# pyright: standard
# (mask functions are untyped)
"""How does one new token of each slot attend to its prompt and to its own tokens, with bits of its own?

A sequence's attention is in two parts, over its prompt, which others may share, and over its own tokens, joined by
their log-sum-exp (as in Flash-Decoding). Each part is matrix products in float32, in which a row's bits depend neither
on the other rows, nor on how many there are (from `_LEAST_ROWS` on), nor on hidden keys after the row's own:
`decoding_probe.py` checks all three. So sequences of one prompt are multiplied together, and so are all slots.

Shapes: W slots, H heads, G key-value heads, Q = H / G, P tokens of a prompt, N keys of a slot, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from crucible.engine.attention_decode import MaskFunction, Visible
from crucible.engine.kv_cache import PromptKv, SlotKv, blocks

SHORTEST_PROMPT = 32
"""Tokens of the shortest prompt that is shared; a shorter one is copied to each slot. (PyTorch multiplies the smallest
matrices in another way.)"""

_LEAST_ROWS = 4
"""Fewer rows are filled up: MKL multiplies them in another way."""

_RUN = 8
"""Slots that are not looked at apart when their own tokens are multiplied: each is as costly as the longest."""

_HIDDEN = -1e30
"""The score of a key that is not seen: finite, so that a row without any stays a number."""


_LEAST_LOG_WEIGHT = -87.0
"""Nothing weighs less than exp of this, the least that is no denormal number, whose exp takes eight times as long. To a
sum that has a weight of 1 in it, as each has, this adds nothing."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The slots that continue one prompt."""

    prompt: PromptKv
    slots: Sequence[int]


@dataclass(frozen=True)
class Part:
    """Attention over some keys: unnormalised (W, G, Q, D), the greatest score and the weights' sum (W, G, Q, 1)."""

    output: Tensor
    top: Tensor
    total: Tensor


class SlotAttention:
    """One decoding step.

    used: tokens already in each slot (W,). offsets: the position of each slot's first token (W,).
    """

    def __init__(self, kv: SlotKv, *, used: Sequence[int], offsets: Sequence[int], groups: Sequence[Group]) -> None:
        self._kv, self._used, self._groups = kv, used, groups
        self._layer = 0
        self._places: Tensor | None = None
        last, self._offsets = torch.tensor(used), torch.tensor(offsets)
        self._positions = self._offsets + last
        self._runs, self._keys = _runs(used)
        own = torch.arange(max(self._keys))
        self._unwritten = own[None] > last[:, None]
        slots = [slot for group in groups for slot in group.slots]
        self._order = None if slots == list(range(len(used))) else torch.tensor(slots, dtype=torch.long)

    @property
    def positions(self) -> Tensor:
        """(W,) of the new tokens."""
        return self._positions

    def visible(self, mask_function: MaskFunction, local_size: int | None) -> Visible:
        """See `CachedAttention`: hidden own keys (W, 1, 1, N), and per group hidden keys (R, P) or None."""
        unwritten = self._unwritten
        if local_size is None or int(self._positions.max()) < local_size:
            return Visible((unwritten[:, None, None], [None] * len(self._groups)))
        first = torch.zeros(1, dtype=torch.long)
        own = self._offsets[:, None] + torch.arange(unwritten.shape[1])
        hidden = unwritten | ~mask_function(first, first, self._positions[:, None], own)
        prompts: list[Tensor | None] = []
        for group in self._groups:
            query = self._positions[list(group.slots)][:, None]
            prompts.append(~mask_function(first, first, query, torch.arange(group.prompt.length)[None]))
        return Visible((hidden[:, None, None], prompts))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, visible: Visible, scale: float) -> Tensor:
        """See `CachedAttention`."""
        layer, self._layer = self._layer, self._layer + 1
        heads = key.shape[1]
        if self._places is None:
            self._places = self._kv.places(self._used, heads).to(key.device)
        keys, values = self._kv.write(layer, key, value, places=self._places)
        q = (query[0].float() * scale).unflatten(0, (heads, -1)).permute(2, 0, 1, 3).contiguous()
        hidden, hidden_prompts = visible.keys
        own = self._over_own(q, keys, values, hidden.to(q.device))
        if self._groups:
            output = _joined(own, self._over_prompts(q, layer, hidden_prompts))
        else:
            output = own.output / own.total
        return output.flatten(1, 2)[None].to(query.dtype)

    def _over_own(self, q: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Part:
        parts: list[Part] = []
        for run, count in zip(self._runs, self._keys, strict=True):
            k, v = keys[run].flatten(0, 1)[:, :count], values[run].flatten(0, 1)[:, :count]
            scores = torch.bmm(q[run].flatten(0, 1), k.transpose(1, 2))
            part = _weighted(scores.view(-1, *q.shape[1:3], count).masked_fill_(hidden[run, :, :, :count], _HIDDEN), v)
            parts.append(part)
        return _stacked(parts)

    def _over_prompts(self, q: Tensor, layer: int, hidden: Sequence[Tensor | None]) -> Part:
        order = self._order if self._order is None else self._order.to(q.device)
        rows = q if order is None else q[order]
        parts: list[Part] = []
        start = 0
        for group, unseen in zip(self._groups, hidden, strict=True):
            count = len(group.slots)
            keys, values = group.prompt.layers[layer]
            parts.append(over_prompt(rows[start : start + count], keys[0], values[0], unseen))
            start += count
        found = _stacked(parts)
        if order is None:
            return found
        empty = (*q.shape[:3], found.output.shape[3])
        return Part(
            q.new_zeros(empty).index_copy_(0, order, found.output),
            q.new_full((*q.shape[:3], 1), _HIDDEN).index_copy_(0, order, found.top),
            q.new_zeros(*q.shape[:3], 1).index_copy_(0, order, found.total),
        )


def _runs(used: Sequence[int]) -> tuple[list[slice], list[int]]:
    """Slots whose own tokens are multiplied together, and over how many keys: neighbours of as many are one run."""
    runs: list[slice] = []
    keys: list[int] = []
    for start in range(0, len(used), _RUN):
        run = slice(start, min(start + _RUN, len(used)))
        count = blocks(max(used[run]) + 1)
        if keys and keys[-1] == count:
            runs[-1] = slice(runs[-1].start, run.stop)
        else:
            runs.append(run)
            keys.append(count)
    return runs, keys


def over_prompt(q: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None) -> Part:
    """Slots' queries (n, G, Q, D) over their prompt's keys and values (G, P, D)."""
    count, _, per_head, _ = q.shape
    rows = q.transpose(0, 1).flatten(1, 2)
    lacking = max(0, _LEAST_ROWS - count * per_head)
    if lacking:
        rows = F.pad(rows, (0, 0, 0, lacking))
    scores = torch.bmm(rows, keys.transpose(1, 2))
    if hidden is not None:
        unseen = F.pad(hidden.repeat_interleave(per_head, dim=0), (0, 0, 0, lacking))
        scores.masked_fill_(unseen.to(scores.device), _HIDDEN)
    part = _weighted(scores, values)
    if lacking:
        part = Part(*(tensor[:, : count * per_head] for tensor in (part.output, part.top, part.total)))
    return Part(*(t.unflatten(1, (count, per_head)).transpose(0, 1) for t in (part.output, part.top, part.total)))


def _weighted(scores: Tensor, values: Tensor) -> Part:
    """Scores (..., R, N), overwritten, and values (B, N, D), B the product of the scores' leading sizes."""
    top = scores.amax(dim=-1, keepdim=True)
    weights = scores.sub_(top).clamp_min_(_LEAST_LOG_WEIGHT).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    output = torch.bmm(weights.view(-1, *weights.shape[-2:]), values)
    return Part(output.view(*scores.shape[:-1], -1), top, total)


def _stacked(parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return Part(*(torch.cat(each) for each in zip(*((p.output, p.top, p.total) for p in parts), strict=True)))


def _joined(own: Part, prompt: Part) -> Tensor:
    """The normalised sum of both parts, (W, G, Q, D)."""
    top = torch.maximum(own.top, prompt.top)
    by_own, by_prompt = (own.top - top).exp_(), (prompt.top - top).exp_()
    total = (own.total * by_own).add_(prompt.total * by_prompt)
    return (own.output * by_own).add_(prompt.output * by_prompt).div_(total)
