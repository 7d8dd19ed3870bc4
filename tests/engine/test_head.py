"""Is the chunked head with its analytic gradient the naive log-softmax with autograd's?"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.engine.head import Head, HeadAdapter, HeadScores, score_positions

N, H, V, R = 7, 6, 11, 3


def drawn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def squared(lp: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """A loss that is not linear in the logprob."""
    return inputs * lp + 0.5 * (lp - 1).square()


def naive(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, adapter: HeadAdapter | None
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """(logprobs, losses, gradients by hidden and the adapter), by materialised logits and autograd."""
    leaves = [hidden.clone().requires_grad_()]
    logits = leaves[0] @ head.weight.t() + (0 if head.bias is None else head.bias)
    if adapter is not None:
        leaves += [adapter.a.clone().requires_grad_(), adapter.b.clone().requires_grad_()]
        logits = logits + adapter.scale * (leaves[0] @ leaves[1].t()) @ leaves[2].t()
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    at = targets[:, None] if targets.ndim == 1 else targets
    logprobs = logits.log_softmax(-1).gather(1, at).reshape(targets.shape)
    losses = squared(logprobs, weights)
    return logprobs.detach(), losses.detach(), list(torch.autograd.grad(losses.sum(), leaves))


def chunked(
    head: Head,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    adapter: HeadAdapter | None,
    *,
    rows: int,
) -> HeadScores:
    def objective(lp: torch.Tensor, chunk: slice) -> tuple[torch.Tensor, torch.Tensor]:
        return squared(lp, weights[chunk]), weights[chunk] + lp - 1

    chunk_bytes = rows * 4 * head.weight.shape[0]
    return score_positions(head, hidden, targets, objective, adapter=adapter, backward=True, chunk_bytes=chunk_bytes)


@settings(deadline=None)
@given(
    count=st.integers(0, N),
    several=st.sampled_from([None, 1, 3]),
    rows=st.integers(1, N + 2),
    bias=st.booleans(),
    adapted=st.booleans(),
    scale=st.sampled_from([1.0, 0.25]),
    softcap=st.sampled_from([None, 2.0]),
    seed=st.integers(0, 99),
)
def test_any_chunking_gives_the_naive_values_and_gradients(
    count: int,
    several: int | None,
    rows: int,
    bias: bool,
    adapted: bool,
    scale: float,
    softcap: float | None,
    seed: int,
) -> None:
    head = Head(
        weight=drawn(V, H, seed=seed), bias=drawn(V, seed=seed + 1) if bias else None, scale=scale, softcap=softcap
    )
    adapter = HeadAdapter(a=drawn(R, H, seed=seed + 2), b=drawn(V, R, seed=seed + 3), scale=0.7) if adapted else None
    shape = (count,) if several is None else (count, several)
    hidden, weights = drawn(count, H, seed=seed + 4), drawn(*shape, seed=seed + 5)
    targets = torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))
    scores = chunked(head, hidden, targets, weights, adapter, rows=rows)
    logprobs, losses, gradients = naive(head, hidden, targets, weights, adapter)
    ours = [scores.d_hidden, *([scores.d_adapter.a, scores.d_adapter.b] if scores.d_adapter else [])]
    for value, expected in zip([scores.logprobs, scores.losses, *ours], [logprobs, losses, *gradients], strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_logits_far_apart_stay_finite() -> None:
    head = Head(weight=torch.tensor([[200.0], [-200.0], [0.0]]))
    scores = chunked(head, torch.ones(2, 1), torch.tensor([0, 1]), torch.ones(2), None, rows=1)
    assert scores.logprobs.tolist() == [0.0, -400.0]
    assert scores.d_hidden is not None and torch.isfinite(scores.d_hidden).all()


def test_the_softmax_is_float32_on_a_bfloat16_head() -> None:
    head = Head(weight=drawn(4096, H, seed=0, dtype=torch.bfloat16))
    hidden = drawn(3, H, seed=1, dtype=torch.bfloat16)
    targets = torch.tensor([5, 6, 7])
    scores = score_positions(head, hidden, targets, lambda lp, _: (-lp, -torch.ones_like(lp)), backward=True)
    exact = (hidden @ head.weight.t()).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(scores.logprobs, exact, rtol=1e-6, atol=1e-6)
    assert scores.d_hidden is not None and scores.d_hidden.dtype == torch.bfloat16
