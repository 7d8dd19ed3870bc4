# pyright: standard
# (calls an operator that torch does not type)
"""How do a few queries attend to some of their keys, so that the result can be joined with that of their other keys?

On the CPU by PyTorch's flash kernel, which is asked for what it tells nobody else: the log-sum-exp beside the output.
Elsewhere, and where keys and values differ in size, by its formula.

Shapes: B batch, G key-value heads, R rows, N keys, D head size, Dv that of values, n sequences, Q rows of each.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN = -1e30
"""The bias of a key that is not seen: finite, so that a row without any stays a number."""

_ROWS = 32
"""The flash kernel goes through rows in blocks of so many, and multiplies a rest of one to three in another way."""

_LEAST_ROWS = 4


@dataclass(frozen=True)
class Part:
    """Attention over some keys: output (B, G, R, Dv), and the log of its weights' sum (B, G, R)."""

    output: Tensor
    total: Tensor


def over_keys(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float) -> Part:
    """Queries (B, G, R, D) over keys (B, G, N, D) and values (B, G, N, Dv), all float32.

    bias: 0 or `HIDDEN`, (B or 1, 1, R or 1, N).
    """
    if q.device.type == "cpu" and keys.shape[-1] == values.shape[-1]:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return Part(*flash(q, keys, values, attn_mask=bias, scale=scale))
    scores = torch.matmul(q, keys.transpose(-2, -1)).mul_(scale).add_(bias)
    total = scores.logsumexp(dim=-1)
    return Part(torch.matmul(scores.sub_(total[..., None]).exp_(), values), total)


def over_prompt(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scale: float) -> Part:
    """Sequences' queries (n, G, Q, D) over the keys and values that they share, (1, G, P, D): (n, G, Q, Dv).

    bias: (1 or n, P).
    """
    count, _, per_head, _ = q.shape
    rows = q.transpose(0, 1).flatten(1, 2)[None]
    wanted = rows.shape[2]
    lacking = max(0, _LEAST_ROWS - wanted % _ROWS) if wanted % _ROWS else 0
    if len(bias) > 1:
        bias = F.pad(bias.repeat_interleave(per_head, dim=0), (0, 0, 0, lacking))
    if lacking:
        rows = F.pad(rows, (0, 0, 0, lacking))
    part = over_keys(rows, keys, values, bias[None, None], scale)
    output, total = part.output[0], part.total[0]
    if lacking:
        output, total = output[:, :wanted], total[:, :wanted]
    shape = (count, per_head)
    return Part(output.unflatten(1, shape).transpose(0, 1), total.unflatten(1, shape).transpose(0, 1))
