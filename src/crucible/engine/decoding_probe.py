# pyright: standard
# (hands torch tensors between the engine's parts)
"""Do these kernels give a row the same bits whatever is computed beside it?

Asked once per loaded model, of this machine, dtype and thread count: the model itself decodes random tokens after
random keys and values, under two random adapters and none, in every width, in different slots and beside different
neighbours, and the logits of one token must be the same bits in all. A kernel's order of summation depends on shapes
and not on numbers, so what holds for random numbers holds for all.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crucible.engine.attention_slots import SHORTEST_PROMPT, Group, over_prompt
from crucible.engine.decoding_pass import DecodingPass
from crucible.engine.kv_cache import BLOCK, PromptKv, SlotKv
from crucible.engine.lora import LoraAdapter, LoraLinear, LoraMatrices
from crucible.engine.lora_sampling import SamplingLinears
from crucible.engine.model import LoadedModel
from crucible.engine.packed_linear import PackedWeights

_RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
_PROMPTS = (SHORTEST_PROMPT + 1, 150)
_SHARED = (SHORTEST_PROMPT, 2 * BLOCK, 511, 1100)
_USED = (0, 5, BLOCK - 1, BLOCK, 2 * BLOCK + 9)
_CONTEXT_ROPE = frozenset({"dynamic", "longrope"})


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What decoding a model needs beside it.

    widths: how many slots may be computed together, ascending; a row has the same bits in all of them.
    reason: why it is one at a time, where it is.
    """

    linears: SamplingLinears
    widths: tuple[int, ...]
    reason: str = ""

    @property
    def decoding(self) -> str:
        """How sequences are decoded, for people."""
        if self.reason:
            return f"one at a time: {self.reason}"
        return f"slots of {' or '.join(map(str, self.widths))}, exact"


def prepare(loaded: LoadedModel, *, slots: int, pack: bool = True) -> Prepared:
    """Lay out the weights, and find the widths up to `slots` that give equal bits."""
    linears = SamplingLinears(PackedWeights(loaded, pack=pack))
    reason = "there is one slot" if slots == 1 else _mixes_rows(loaded)
    if reason:
        return Prepared(linears=linears, widths=(1,), reason=reason)
    widths = [width for width in (4, 8, 16, 32, 64, 128) if width < slots]
    probe = _Probe(loaded, linears, [*widths, slots])
    linears.one_by_one = probe.ranks_to_split()
    exact = probe.widths()
    if exact:
        return Prepared(linears=linears, widths=exact)
    reason = "on this machine a row's bits depend on the rows beside it"
    return Prepared(linears=linears, widths=(1,), reason=reason)


def _mixes_rows(loaded: LoadedModel) -> str:
    """Why a row depends on the others by the model's own design, if it does."""
    if any(parameter.ndim > 2 for parameter in loaded.model.parameters()):
        return "the model sends tokens to experts, whose batches depend on the other rows"
    rope = getattr(loaded.model.config, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type"), *(part.get("rope_type") for part in rope.values() if isinstance(part, dict))}
    if kinds & _CONTEXT_ROPE:
        return "the model's position encoding depends on the longest of the rows"
    return ""


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What a slot may hold: a token after `used` own tokens, and after a prompt or none, under an adapter or none."""

    number: int
    token: int
    used: int
    prompt: PromptKv | None
    adapter: LoraAdapter | None


class _Probe:
    """Random contents, and the model's logits for them in any arrangement."""

    def __init__(self, loaded: LoadedModel, linears: SamplingLinears, widths: Sequence[int]) -> None:
        self._loaded, self._pass, self._widths = loaded, DecodingPass(loaded, linears), widths
        self._linears = linears
        self._random = torch.Generator().manual_seed(0)
        shape = PromptKv(1)
        self._pass.prompt([0], shape, start=0, adapter=None)
        self._shapes = [(keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in shape.layers]
        room = (loaded.context_length or 2 * max(_USED)) // 2 - 1
        self._own = {min(used, room): self._prompt(min(used, room)) for used in _USED}
        prompts = [self._prompt(min(length, room)) for length in _PROMPTS]
        adapters = [self._adapter(rank=8), self._adapter(rank=8)]
        self._contents = [
            _Content(
                number=number,
                token=(number * 7919 + 1) % loaded.vocab_size,
                used=min(_USED[number % len(_USED)], room),
                prompt=(None, *prompts)[number % 3],
                adapter=(*adapters, None)[number // 2 % 3],
            )
            for number in range(widths[-1])
        ]

    def widths(self) -> tuple[int, ...]:
        """The widths in which every content's logits are the same bits, in any slot and beside any neighbours."""
        known: dict[int, Tensor] = {}
        if not all(self._sharing_is_exact(length) for length in _SHARED):
            return ()
        return tuple(width for width in reversed(self._widths) if self._same(width, known))[::-1]

    def _same(self, width: int, known: dict[int, Tensor]) -> bool:
        found: dict[int, Tensor] = {}
        for contents in self._arrangements(width):
            logits = self._logits(contents)
            for row, content in zip(logits, contents, strict=True):
                first = known.get(content.number, found.setdefault(content.number, row))
                if not torch.equal(first, row):
                    return False
        known |= found
        return True

    def _arrangements(self, width: int) -> list[list[_Content]]:
        """In order; moved on by three; and those of one adapter alone, repeated to fill the slots."""
        some = self._contents[:width]
        alone = [content for content in some if content.adapter is self._contents[0].adapter]
        return [some, [*some[3:], *some[:3]], list(itertools.islice(itertools.cycle(alone), width))]

    def _logits(self, contents: Sequence[_Content]) -> Tensor:
        kv = SlotKv()
        capacity = max(content.used for content in contents) // BLOCK * BLOCK + BLOCK
        kv.arrange([None] * len(contents), capacity=capacity)
        for slot, content in enumerate(contents):
            if content.used:
                kv.fill(slot, self._own[content.used])
        groups = [
            Group(prompt=prompt, slots=[slot for slot, each in enumerate(contents) if each.prompt is prompt])
            for prompt in {id(each.prompt): each.prompt for each in contents}.values()
            if prompt is not None
        ]
        adapters = {id(each.adapter): each.adapter for each in contents}.values()
        return self._pass.slots(
            [content.token for content in contents],
            kv,
            used=[content.used for content in contents],
            offsets=[0 if content.prompt is None else content.prompt.length for content in contents],
            groups=groups,
            adapters=[(a, [slot for slot, each in enumerate(contents) if each.adapter is a]) for a in adapters],
        )

    def _prompt(self, length: int) -> PromptKv:
        """Random keys and values."""
        kv = PromptKv(length)
        for heads, *sizes in self._shapes:
            pair = [torch.randn(1, heads, length, size, generator=self._random) for size in sizes]
            kv.layers.append((pair[0].to(self._loaded.device), pair[1].to(self._loaded.device)))
        return kv

    def _adapter(self, *, rank: int) -> LoraAdapter:
        layers = [layer for kind in self._loaded.layers.values() for layer in kind]
        return LoraAdapter(
            rank=rank, alpha=rank, layers={layer.layer_name: self._matrices(layer, rank) for layer in layers}
        )

    def _matrices(self, layer: LoraLinear, rank: int) -> LoraMatrices:
        a = torch.randn(rank, layer.in_features, generator=self._random) / layer.in_features**0.5
        b = torch.randn(layer.out_features, rank, generator=self._random) / layer.out_features**0.5
        return LoraMatrices(a=a.to(self._loaded.device), b=b.to(self._loaded.device))

    def ranks_to_split(self) -> frozenset[int]:
        """The ranks, of the usual ones, whose product gives a row bits that depend on how many rows there are."""
        layers = {(each.in_features, each.out_features): each for kind in self._loaded.layers.values() for each in kind}
        return frozenset(
            rank for rank in _RANKS if not all(self._rank_is_exact(layer, rank) for layer in layers.values())
        )

    @torch.no_grad()
    def _rank_is_exact(self, layer: LoraLinear, rank: int) -> bool:
        most = self._widths[-1]
        x = torch.randn(most, layer.in_features, generator=self._random).to(self._loaded.device)
        y = torch.randn(most, layer.out_features, generator=self._random).to(self._loaded.device)
        matrices = self._matrices(layer, rank)
        adapter = LoraAdapter(rank=rank, alpha=rank, layers={})
        whole = self._linears.add_(y.clone(), x, matrices, adapter)
        parts = [self._linears.add_(y[-width:].clone(), x[-width:], matrices, adapter) for width in self._widths]
        return all(torch.equal(part, whole[-len(part) :]) for part in parts)

    def _sharing_is_exact(self, length: int) -> bool:
        """Whether a sequence's attention over a prompt is the same, however many continue the prompt."""
        most, heads = self._widths[-1], int(self._loaded.model.config.num_attention_heads)
        for layer in {shape: place for place, shape in enumerate(self._shapes)}.values():
            keys, values = self._prompt(length).layers[layer]
            shape = (most, keys.shape[1], heads // keys.shape[1], keys.shape[3])
            q = torch.randn(shape, generator=self._random).to(keys.device)
            whole = over_prompt(q, keys[0], values[0], None)
            for count in (1, 2, 3, *self._widths):
                part = over_prompt(q[-count:], keys[0], values[0], None)
                if not (
                    torch.equal(part.output, whole.output[-count:]) and torch.equal(part.total, whole.total[-count:])
                ):
                    return False
        return True
