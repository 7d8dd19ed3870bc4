# pyright: standard
# (transformers' models are loosely typed)
"""How do tokens go through the model while it samples?"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crucible.engine.attention_decode import CachedAttention, NoCache, PromptAttention, PromptsAttention, reading
from crucible.engine.attention_slots import Group, SlotAttention
from crucible.engine.kv_cache import PromptKv, SlotKv
from crucible.engine.lora import LoraAdapter
from crucible.engine.lora_sampling import Applied, SamplingLinears
from crucible.engine.model import LoadedModel


@dataclass(frozen=True, kw_only=True)
class PromptPart:
    """Tokens of a prompt that are read at once, those from `start` on. kv: of the prompt."""

    tokens: Sequence[int]
    start: int
    kv: PromptKv
    adapter: LoraAdapter | None

    @property
    def end(self) -> int:
        """How many tokens are read then."""
        return self.start + len(self.tokens)


class DecodingPass:
    """The model's passes over a chunk of a prompt, over short ones of several, and over one token of each slot."""

    def __init__(self, loaded: LoadedModel, linears: SamplingLinears) -> None:
        self.loaded, self._linears = loaded, linears

    def prompt(self, tokens: Sequence[int], kv: PromptKv, *, start: int, adapter: LoraAdapter | None) -> Tensor:
        """Read tokens that follow the first `start`; their last hidden states (n, H)."""
        end = start + len(tokens)
        attention = PromptAttention(kv, start=start, end=end)
        return self._hidden(tokens, torch.arange(start, end), attention, _everywhere(adapter, cast=True))

    def prompts(self, parts: Sequence[PromptPart], *, width: int) -> list[Tensor]:
        """Read parts of prompts in `width` rows, at least as many as they have tokens together; each one's last hidden
        states (n, H). A row's bits are its own, as in `slots`."""
        tokens = [token for part in parts for token in part.tokens]
        places = [place for part in parts for place in range(part.start, part.end)]
        spare = [0] * (width - len(tokens))
        adapters: dict[int, tuple[LoraAdapter | None, list[int]]] = {}
        cuts, row = [len(part.tokens) for part in parts], 0
        for part in parts:
            adapters.setdefault(id(part.adapter), (part.adapter, []))[1].extend(range(row, row + len(part.tokens)))
            row += len(part.tokens)
        attention = PromptsAttention([(part.kv, part.start, part.end) for part in parts])
        applied = self._applied(list(adapters.values()), width)
        hidden = self._hidden([*tokens, *spare], torch.tensor([*places, *spare]), attention, applied)
        return list(hidden[: len(tokens)].split(cuts))

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
        applied = self._applied(adapters, len(tokens))
        hidden = self._hidden(tokens, attention.positions, attention, applied)
        return self._logits(hidden, applied)

    def logits(self, hidden: Tensor, adapter: LoraAdapter | None) -> Tensor:
        """Last hidden states (n, H) of one sequence -> float32 logits (n, V)."""
        return self._logits(hidden, _everywhere(adapter, cast=True))

    def _applied(self, adapters: Sequence[tuple[LoraAdapter | None, Sequence[int]]], width: int) -> list[Applied]:
        """adapters: with the rows, of so many, that they are for."""
        if len(adapters) == 1:
            return _everywhere(adapters[0][0])
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
