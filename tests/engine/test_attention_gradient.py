"""Is the CPU's own bfloat16 attention gradient that of plain autograd in float64?"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.engine.attention_gradient import PackedAttention


def heads(count: int, length: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """(1, count, length, 8), laid out as models lay it out."""
    drawn = torch.randn(1, length, count, 8, generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype).transpose(1, 2).requires_grad_()


def plain(tensors: list[torch.Tensor], lengths: tuple[int, ...], window: int | None, scale: float) -> torch.Tensor:
    """(1, T, heads, 8): softmax attention over the whole row with the mask written out."""
    query, key, value = tensors
    key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], dim=1) for t in (key, value))
    sequence = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(len(sequence))
    gap = place[:, None] - place[None, :]
    seen = (sequence[:, None] == sequence[None, :]) & (gap >= 0) & (gap < (window or len(place)))
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


def mask(length: int, window: int | None) -> torch.Tensor | None:
    """The block mask of one sequence, where the window hides something."""
    if window is None or length <= window:
        return None
    gap = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    return ((gap >= 0) & (gap < window))[None, None]


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.sampled_from([1, 5, 97, 200]), min_size=1, max_size=3).map(tuple),
    groups=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    window=st.sampled_from([None, 1, 60]),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_output_and_gradients_are_plain_attentions(
    lengths: tuple[int, ...],
    groups: tuple[int, int],
    window: int | None,
    seed: int,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    tensors = [
        heads(count, sum(lengths), seed + place, dtype) for place, count in enumerate((groups[0], *groups[1:] * 2))
    ]
    blocks = tuple(mask(length, window) for length in lengths)
    grad = torch.randn(1, sum(lengths), groups[0], 8, generator=torch.Generator().manual_seed(seed)).to(dtype)
    ours = PackedAttention.apply(*tensors, lengths, blocks, 0.3)
    doubles = [tensor.detach().double().requires_grad_() for tensor in tensors]
    theirs = plain(doubles, lengths, window, 0.3)
    values = [ours, *torch.autograd.grad(ours, tensors, grad)]
    expected = [theirs, *torch.autograd.grad(theirs, doubles, grad.double())]
    for value, exact in zip(values, expected, strict=True):
        assert value.dtype == dtype
        assert (value.double() - exact).norm() <= tolerance * exact.norm() + 1e-6
