# pyright: standard
# (transformers' attention and mask interfaces are untyped)
"""How do packed sequences attend only to themselves, in any model that uses transformers' attention interface?

Inside `packed(...)`, a row of sequences laid end to end is attended sequence by sequence: no padding, no
mask over the row. Outside, calls behave as transformers' own `sdpa` (padding masks, KV caches).
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from crucible.engine.attention_decode import CACHED, Visible
from crucible.engine.attention_gradient import LONGEST, PackedAttention, attend
from crucible.engine.packing import Packing
from crucible.errors import ModelError

IMPLEMENTATION = "crucible_packed"
"""The name to load a model with (`attn_implementation=`)."""

_PACKING: ContextVar[Packing | None] = ContextVar("crucible_packing", default=None)

# Arguments that models hand to their attention and that do not change its result here.
_NEUTRAL = frozenset({"position_ids", "use_cache", "cache_position", "sliding_window", "output_attentions"})


@dataclass(frozen=True)
class _BlockMasks:
    """What stands for the mask of a packed row: per sequence, None (plainly causal) or a bool mask (1, 1, L, L)."""

    blocks: tuple[torch.Tensor | None, ...]


@contextmanager
def packed(packing: Packing) -> Generator[None]:
    """Within: the model's input is one row, (1, packing.total), of sequences with their own position ids."""
    token = _PACKING.set(packing)
    try:
        yield
    finally:
        _PACKING.reset(token)


def _mask(*, mask_function: Any, local_size: int | None = None, use_vmap: bool = False, **kwargs: Any) -> Any:
    """transformers' mask interface. `local_size` is the window or chunk of a local layer, None for full attention."""
    packing, cached = _PACKING.get(), CACHED.get()
    if packing is None and cached is None:
        return sdpa_mask(mask_function=mask_function, local_size=local_size, use_vmap=use_vmap, **kwargs)
    if use_vmap:
        raise ModelError.of("the model overlays its own pattern on the causal mask, which packing does not support")
    if packing is None:
        assert cached is not None
        return cached.visible(mask_function, local_size)
    first = torch.zeros(1, dtype=torch.long, device=kwargs["device"])[:, None, None, None]
    blocks: list[torch.Tensor | None] = []
    for start, end in packing.spans:
        if local_size is None or end - start <= local_size:
            blocks.append(None)
            continue
        row = torch.arange(start, end, device=kwargs["device"])
        blocks.append(mask_function(first, first, row[None, None, :, None], row[None, None, None, :]))
    return _BlockMasks(tuple(blocks))


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface.

    query (B, heads, T, D), key and value (B, kv_heads, S, D) -> (B, T, heads, D).
    """
    unknown = sorted(name for name, given in kwargs.items() if given is not None and name not in _NEUTRAL)
    if unknown or dropout:
        unknown += ["dropout"] if dropout else []
        raise ModelError.of(
            f"{type(module).__name__} asks its attention for what this engine does not compute",
            given=", ".join(unknown),
        )
    packing, cached = _PACKING.get(), CACHED.get()
    if packing is None and cached is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **kwargs
        )
    # The arguments are as `sdpa` has them: no scaling means 1 / sqrt(D).
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    causal = is_causal is not False and getattr(module, "is_causal", True)
    if cached is not None and isinstance(attention_mask, Visible) and causal:
        return cached.attend(query, key, value, attention_mask, scale), None
    if packing is None or not isinstance(attention_mask, _BlockMasks) or not causal:
        raise ModelError.of(f"{type(module).__name__} is not causal attention with a mask from transformers' interface")
    blocks = attention_mask.blocks
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and max(packing.lengths) <= LONGEST:
        return PackedAttention.apply(query, key, value, packing.lengths, blocks, scale), None
    return torch.cat(attend(query, key, value, packing.lengths, blocks, scale), dim=1), None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, _mask)
