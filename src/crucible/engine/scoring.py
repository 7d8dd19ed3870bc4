# pyright: standard
# (torch.autograd.grad is loosely typed)
"""What are the logprobs, losses and adapter gradients of checked rows?

Rows go through the model in packed micro-batches. Positions that cannot have a loss get no head computation
unless their logprobs are asked for, and never a gradient.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crucible.engine.head import HeadAdapter, HeadScores, score_positions
from crucible.engine.lora import LoraAdapter
from crucible.engine.losses import Loss
from crucible.engine.model import LoadedModel
from crucible.engine.packing import Packing, micro_batches
from crucible.engine.rows import Row
from crucible.ports.training_client import LogprobsWanted


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Per row: logprobs (N,), NaN where not computed, and elementwise losses (N,), float32.

    gradients: of `adapter.parameters`, float32, summed over rows; None without a backward.
    """

    logprobs: Sequence[NDArray[np.float32]]
    losses: Sequence[NDArray[np.float32]]
    gradients: Sequence[Tensor] | None

    @property
    def total_loss(self) -> float:
        """The sum-reduced loss, added up in float64."""
        return float(sum(losses.sum(dtype=np.float64) for losses in self.losses))


def score_rows(
    loaded: LoadedModel,
    adapter: LoraAdapter,
    rows: Sequence[Row],
    *,
    loss: Loss,
    config: Mapping[str, float],
    wanted: LogprobsWanted,
    backward: bool,
    token_budget: int,
    should_stop: Callable[[], bool],
) -> Scores:
    """Score rows under `adapter`; with `backward`, differentiate the summed loss by its parameters.

    Raises:
        CancelledError: if `should_stop`, asked before every micro-batch, says so.
    """
    gradients = [torch.zeros_like(parameter) for parameter in adapter.parameters] if backward else None
    logprobs = [np.full(len(row.tokens), np.nan, np.float32) for row in rows]
    losses = [np.zeros(len(row.tokens), np.float32) for row in rows]
    with loaded.active.use(adapter):
        for run in micro_batches([len(row.tokens) for row in rows], token_budget=token_budget):
            if should_stop():
                raise CancelledError("scoring was cancelled")
            batch = _Batch([rows[index] for index in run], device=loaded.device)
            scored = _score_batch(loaded, adapter, batch, loss, config, wanted=wanted, gradients=gradients)
            for index, (start, end) in zip(run, batch.packing.spans, strict=True):
                logprobs[index][:], losses[index][:] = scored[0][start:end], scored[1][start:end]
    return Scores(logprobs=logprobs, losses=losses, gradients=gradients)


class _Batch:
    """A micro-batch's rows, laid end to end on the device."""

    def __init__(self, rows: Sequence[Row], *, device: torch.device) -> None:
        self.packing = Packing(lengths=tuple(len(row.tokens) for row in rows))
        self.tokens = torch.from_numpy(np.concatenate([row.tokens for row in rows])).to(device)
        self.targets = torch.from_numpy(np.concatenate([row.targets for row in rows])).to(device)
        self.inputs = {
            name: torch.from_numpy(np.concatenate([row.inputs[name] for row in rows])).to(device)
            for name in rows[0].inputs
        }
        active = torch.from_numpy(np.concatenate([row.active for row in rows]))
        self.active, self.inactive = active.nonzero()[:, 0].to(device), (~active).nonzero()[:, 0].to(device)


def _score_batch(
    loaded: LoadedModel,
    adapter: LoraAdapter,
    batch: _Batch,
    loss: Loss,
    config: Mapping[str, float],
    *,
    wanted: LogprobsWanted,
    gradients: Sequence[Tensor] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(logprobs, losses) of a micro-batch; adds to `gradients` in place."""
    logprobs = torch.full((batch.packing.total,), torch.nan, device=loaded.device)
    losses = torch.zeros_like(logprobs)
    wants_all = wanted == "all" and len(batch.inactive) > 0
    if len(batch.active) == 0 and not wants_all:
        return logprobs.cpu().numpy(), losses.cpu().numpy()
    with torch.set_grad_enabled(gradients is not None and len(batch.active) > 0):
        hidden = loaded.hidden_states(batch.tokens, batch.packing)
    head_adapter = _head_adapter(loaded, adapter)

    def score(positions: Tensor, *, backward: bool) -> HeadScores:
        inputs = {name: tensor[positions] for name, tensor in batch.inputs.items()}

        def objective(lp: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
            return loss.elementwise(lp, {name: tensor[chunk] for name, tensor in inputs.items()}, config)

        scores = score_positions(
            loaded.head,
            hidden.detach()[positions],
            batch.targets[positions],
            objective,
            adapter=head_adapter,
            backward=backward,
        )
        logprobs[positions], losses[positions] = scores.logprobs, scores.losses
        return scores

    with torch.no_grad():
        scores = score(batch.active, backward=gradients is not None)
        if wants_all:
            score(batch.inactive, backward=False)
    if gradients is not None and len(batch.active) > 0:
        _add_gradients(gradients, loaded, adapter, hidden, batch.active, scores)
    return logprobs.cpu().numpy(), losses.cpu().numpy()


def _head_adapter(loaded: LoadedModel, adapter: LoraAdapter) -> HeadAdapter | None:
    matrices = loaded.layers["unembed"][0].matrices
    if matrices is None:
        return None
    dtype = loaded.head.weight.dtype
    return HeadAdapter(a=matrices.a.detach().to(dtype), b=matrices.b.detach().to(dtype), scale=adapter.scale)


def _add_gradients(
    gradients: Sequence[Tensor],
    loaded: LoadedModel,
    adapter: LoraAdapter,
    hidden: Tensor,
    positions: Tensor,
    scores: HeadScores,
) -> None:
    """Carry the head's gradients through the model's body into `gradients`, in place."""
    assert scores.d_hidden is not None
    by_name = dict(zip(adapter.layers, zip(gradients[::2], gradients[1::2], strict=True), strict=True))
    if scores.d_adapter is not None:
        into_a, into_b = by_name.pop(loaded.layers["unembed"][0].layer_name)
        into_a.add_(scores.d_adapter.a)
        into_b.add_(scores.d_adapter.b)
    if not by_name:
        return
    d_hidden = torch.zeros_like(hidden).index_copy_(0, positions, scores.d_hidden)
    body = [matrix for name in by_name for matrix in (adapter.layers[name].a, adapter.layers[name].b)]
    # A layer that no token went through (an expert) has no gradient: allow_unused.
    found = torch.autograd.grad(hidden, body, d_hidden, allow_unused=True)
    for into, gradient in zip((into for pair in by_name.values() for into in pair), found, strict=True):
        if gradient is not None:
            into.add_(gradient)
