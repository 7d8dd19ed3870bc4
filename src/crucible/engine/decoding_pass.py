# pyright: standard
# (transformers' models are loosely typed)
"""How do tokens go through the model while it samples?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from crucible.engine.attention_decode import CachedAttention, NoCache, PromptAttention, reading
from crucible.engine.attention_slots import Group, SlotAttention
from crucible.engine.kv_cache import PromptKv, SlotKv
from crucible.engine.lora import LoraAdapter
from crucible.engine.lora_sampling import Applied, SamplingLinears
from crucible.engine.model import LoadedModel


class DecodingPass:
    """The model's passes over a chunk of a prompt and over one token of each slot."""

    def __init__(self, loaded: LoadedModel, linears: SamplingLinears) -> None:
        self.loaded, self._linears = loaded, linears

    def prompt(self, tokens: Sequence[int], kv: PromptKv, *, start: int, adapter: LoraAdapter | None) -> Tensor:
        """Read tokens that follow the first `start`; their last hidden states (n, H)."""
        end = start + len(tokens)
        attention = PromptAttention(kv, start=start, end=end)
        return self._hidden(tokens, torch.arange(start, end), attention, _everywhere(adapter, cast=True))

    def slots(
        self,
        tokens: Sequence[int],
        kv: SlotKv,
        *,
        used: Sequence[int],
        offsets: Sequence[int],
        groups: Sequence[Group],
        adapters: Sequence[tuple[LoraAdapter | None, Sequence[int]]],
    ) -> Tensor:
        """Read a token in each slot; the float32 logits (W, V) of the next. For the rest see `SlotAttention`.

        adapters: the live ones, with their slots.
        """
        attention = SlotAttention(kv, used=used, offsets=offsets, groups=groups)
        applied = _everywhere(adapters[0][0]) if len(adapters) == 1 else self._somewhere(adapters, len(tokens))
        hidden = self._hidden(tokens, attention.positions, attention, applied)
        return self._logits(hidden, applied)

    def logits(self, hidden: Tensor, adapter: LoraAdapter | None) -> Tensor:
        """Last hidden states (n, H) of one sequence -> float32 logits (n, V)."""
        return self._logits(hidden, _everywhere(adapter, cast=True))

    def _somewhere(self, adapters: Sequence[tuple[LoraAdapter | None, Sequence[int]]], width: int) -> list[Applied]:
        applied: list[Applied] = []
        for adapter, slots in adapters:
            if adapter is not None:
                rows = torch.zeros(width, 1, dtype=torch.bool)
                rows[list(slots)] = True
                applied.append(Applied(adapter=adapter, rows=rows.to(self.loaded.device)))
        return applied

    @torch.no_grad()
    def _hidden(
        self, tokens: Sequence[int], positions: Tensor, attention: CachedAttention, applied: Sequence[Applied]
    ) -> Tensor:
        loaded, device = self.loaded, self.loaded.device
        with loaded.active.use_instead(self._linears), self._linears.applying(applied), reading(attention):
            output = loaded.model.base_model(
                input_ids=torch.tensor([list(tokens)], device=device),
                position_ids=positions[None].to(device),
                past_key_values=NoCache(),
                use_cache=False,
            )
        return output.last_hidden_state[0]

    @torch.no_grad()
    def _logits(self, hidden: Tensor, applied: Sequence[Applied]) -> Tensor:
        loaded, head = self.loaded, self.loaded.head
        with loaded.active.use_instead(self._linears), self._linears.applying(applied):
            logits = loaded.layers["unembed"][0](hidden).float()
        if head.scale != 1.0:
            logits = logits * head.scale
        if head.softcap is not None:
            logits = (logits / head.softcap).tanh_().mul_(head.softcap)
        return logits


def _everywhere(adapter: LoraAdapter | None, *, cast: bool = False) -> list[Applied]:
    return [] if adapter is None else [Applied(adapter=adapter, cast=cast)]
