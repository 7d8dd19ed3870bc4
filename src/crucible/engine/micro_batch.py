# pyright: standard
# (torch.autograd.grad is loosely typed)
"""What are the logprobs, losses and adapter gradients of the rows that go through the model together?

Positions that cannot have a loss get no head computation unless their logprobs are asked for, and never a gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crucible.engine.head import HeadAdapter, HeadScores, Objective, score_positions
from crucible.engine.lora import LoraAdapter, LoraMatrices
from crucible.engine.losses import Loss
from crucible.engine.model import LoadedModel
from crucible.engine.packing import Packing
from crucible.engine.prefix_tree import PrefixTree
from crucible.engine.shared_prompts import Taken
from crucible.ports.training_client import LogprobsWanted


class Batch:
    """A micro-batch's rows, laid end to end on the device.

    targets, inputs: (n,), or (n, K) if a row has several targets at a position; K is the most that one has, and
    the others' spare places hold zeros, which have no loss.
    tree: where the rows' tokens are computed, if what they have in common is computed once.
    places: (n,), with a tree: where each position's hidden states are; of no account after what is computed of a row.
    """

    def __init__(self, taken: Taken, *, device: torch.device) -> None:
        rows = taken.rows
        width = max(row.targets[0].size for row in rows) if any(row.targets.ndim == 2 for row in rows) else None

        def joined(parts: Sequence[NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.concatenate([_widened(part, width) for part in parts])).to(device)

        self.packing = Packing(lengths=tuple(len(row.tokens) for row in rows))
        self.targets = joined([row.targets for row in rows])
        self.inputs = {name: joined([row.inputs[name] for row in rows]) for name in rows[0].inputs}
        active = torch.from_numpy(np.concatenate([row.active for row in rows]))
        self.active, self.inactive = active.nonzero()[:, 0].to(device), (~active).nonzero()[:, 0].to(device)
        self._sequences = [row.tokens for row in rows]
        self.tree: PrefixTree | None = None
        self.places: Tensor | None = None
        if taken.sequences is not None:
            self.tree = PrefixTree.of(taken.sequences)
            places = np.zeros(self.packing.total, np.int64)
            for (start, _), own in zip(self.packing.spans, self.tree.places, strict=True):
                places[start : start + len(own)] = own
            self.places = torch.from_numpy(places).to(device)

    @property
    def tokens(self) -> Tensor:
        """(n,) token ids of the rows, on the CPU."""
        return torch.from_numpy(np.concatenate(self._sequences))

    @property
    def computed(self) -> int:
        """Tokens that go through the model."""
        return self.packing.total if self.tree is None else len(self.tree.tokens)

    def as_tree(self) -> PrefixTree:
        """The layout for a row in which other batches share their beginnings, even if this one does not."""
        return self.tree or PrefixTree.apart(self._sequences)

    def hidden_at(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """The hidden states of some of the n positions, of those of the computed tokens."""
        return hidden[positions if self.places is None else self.places[positions]]

    def distinct(self, positions: Tensor) -> tuple[Tensor, Tensor | slice]:
        """One of all positions with the same hidden states and targets (u,), and for each position, which of them."""
        if self.places is None:
            return positions, slice(None)
        own = torch.cat([self.places[positions, None], self.targets[positions].view(len(positions), -1)], dim=1)
        _, first, alike = np.unique(own.cpu().numpy(), axis=0, return_index=True, return_inverse=True)
        return positions[first], torch.from_numpy(alike.reshape(-1)).to(positions.device)

    def spread(self, d_active: Tensor, *, like: Tensor) -> Tensor:
        """The gradient by the hidden states, of shape `like`, from that of the active positions."""
        if self.places is None:
            return torch.zeros_like(like).index_copy_(0, self.active, d_active)
        total = torch.zeros_like(like, dtype=torch.float32)
        places = self.places[self.active]
        # Row by row: a row's places are all different, so that the order of a sum is that of the rows.
        ends = torch.tensor([end for _, end in self.packing.spans], device=self.active.device)
        cuts = torch.searchsorted(self.active, ends).diff(prepend=ends.new_zeros(1)).tolist()
        for own, gradient in zip(places.split(cuts), d_active.float().split(cuts), strict=True):
            total[own] += gradient
        return total.to(like.dtype)


def _widened(values: NDArray[Any], width: int | None) -> NDArray[Any]:
    """(N,) or (N, K) as (N, width), filled with zeros; as it is without a width."""
    if width is None:
        return values
    wide = np.zeros((len(values), width), values.dtype)
    wide[:, : values[0].size] = values.reshape(len(values), -1)
    return wide


@dataclass(frozen=True, kw_only=True)
class BatchScores:
    """What the head says of a batch's n positions.

    logprobs, losses: of the batch's targets' shape. With a backward and a position that has a loss: d_hidden (n, H),
    the gradient by the hidden states, and d_head, by the head's adapter if it has one.
    """

    logprobs: Tensor
    losses: Tensor
    d_hidden: Tensor | None = None
    d_head: LoraMatrices | None = None


def score_hidden(
    loaded: LoadedModel,
    adapter: LoraAdapter,
    batch: Batch,
    hidden: Tensor,
    *,
    loss: Loss,
    config: Mapping[str, float],
    wanted: LogprobsWanted,
    backward: bool,
) -> BatchScores:
    """Score a batch by its computed tokens' hidden states (batch.computed, H), which are taken as given: detached."""
    logprobs = torch.full(batch.targets.shape, torch.nan, device=loaded.device)
    losses = torch.zeros_like(logprobs)
    head_adapter = _head_adapter(loaded, adapter)

    def score(positions: Tensor, objective: Objective, *, backward: bool = False) -> HeadScores:
        scores = score_positions(
            loaded.head,
            batch.hidden_at(hidden, positions),
            batch.targets[positions],
            objective,
            adapter=head_adapter,
            backward=backward,
        )
        logprobs[positions], losses[positions] = scores.logprobs, scores.losses
        return scores

    given = batch.inputs
    if loss.sequence_ratio is not None and len(batch.active) > 0:
        mask = given[loss.sequence_ratio]
        score(mask.nonzero()[:, 0], _no_loss)
        given = {**given, "sequence_log_ratio": _sequence_log_ratio(batch, logprobs, mask=mask)}
    inputs = {name: tensor[batch.active] for name, tensor in given.items()}

    def objective(lp: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        return loss.elementwise(lp, {name: tensor[chunk] for name, tensor in inputs.items()}, config)

    scores = score(batch.active, objective, backward=backward)
    if wanted == "all" and len(batch.inactive) > 0:
        first, alike = batch.distinct(batch.inactive)
        score(first, _no_loss)
        logprobs[batch.inactive] = logprobs[first[alike]]
    if scores.d_hidden is None or len(batch.active) == 0:
        return BatchScores(logprobs=logprobs, losses=losses)
    d_hidden = batch.spread(scores.d_hidden, like=hidden)
    return BatchScores(logprobs=logprobs, losses=losses, d_hidden=d_hidden, d_head=scores.d_adapter)


def score_batch(
    loaded: LoadedModel,
    adapter: LoraAdapter,
    batch: Batch,
    *,
    loss: Loss,
    config: Mapping[str, float],
    wanted: LogprobsWanted,
    gradients: Sequence[Tensor] | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(logprobs, losses) of a batch under the adapter in use; adds to `gradients` in place."""
    if len(batch.active) == 0 and (wanted == "weighted" or len(batch.inactive) == 0):
        return np.full(batch.targets.shape, np.nan, np.float32), np.zeros(batch.targets.shape, np.float32)
    backward = gradients is not None and len(batch.active) > 0
    with torch.set_grad_enabled(backward):
        hidden = hidden_states(loaded, batch)
    with torch.no_grad():
        scores = score_hidden(
            loaded, adapter, batch, hidden.detach(), loss=loss, config=config, wanted=wanted, backward=backward
        )
    if gradients is not None and scores.d_hidden is not None:
        add_gradients(gradients, loaded, adapter, hidden, scores)
    return scores.logprobs.cpu().numpy(), scores.losses.cpu().numpy()


def hidden_states(loaded: LoadedModel, batch: Batch) -> Tensor:
    """The last hidden states of the batch's computed tokens, (batch.computed, H)."""
    if batch.tree is not None:
        return loaded.shared_hidden_states(batch.tree)
    return loaded.hidden_states(batch.tokens.to(loaded.device), batch.packing)


def _no_loss(logprobs: Tensor, _: slice) -> tuple[Tensor, Tensor]:
    """For positions whose logprobs alone are wanted."""
    nothing = torch.zeros_like(logprobs)
    return nothing, nothing


def _sequence_log_ratio(batch: Batch, logprobs: Tensor, *, mask: Tensor) -> Tensor:
    """(n,): at every position of a sequence, the mean of its log ratios where `mask` is not 0.

    One without such a position has no loss (`rows_of` sees to it), and any number stands there.
    """
    log_ratio = torch.zeros_like(logprobs)
    for start, end in batch.packing.spans:
        counted = mask[start:end] != 0
        drift = (logprobs[start:end] - batch.inputs["logprobs"][start:end])[counted]
        log_ratio[start:end] = drift.sum() / max(1, len(drift))
    return log_ratio


def _head_adapter(loaded: LoadedModel, adapter: LoraAdapter) -> HeadAdapter | None:
    matrices = adapter.layers.get(loaded.layers["unembed"][0].layer_name)
    if matrices is None:
        return None
    dtype = loaded.head.weight.dtype
    return HeadAdapter(a=matrices.a.detach().to(dtype), b=matrices.b.detach().to(dtype), scale=adapter.scale)


def add_gradients(
    gradients: Sequence[Tensor], loaded: LoadedModel, adapter: LoraAdapter, hidden: Tensor, scores: BatchScores
) -> None:
    """Carry the head's gradients through the model's body into `gradients`, in place."""
    assert scores.d_hidden is not None
    if scores.d_head is not None:
        add_head_gradient(gradients, loaded, adapter, scores.d_head)
    head = loaded.layers["unembed"][0].layer_name
    pairs = zip(adapter.layers, zip(gradients[::2], gradients[1::2], strict=True), strict=True)
    by_name = {name: pair for name, pair in pairs if name != head}
    if not by_name:
        return
    body = [matrix for name in by_name for matrix in (adapter.layers[name].a, adapter.layers[name].b)]
    # A layer that no token went through (an expert) has no gradient: allow_unused.
    found = torch.autograd.grad(hidden, body, scores.d_hidden, allow_unused=True)
    for into, gradient in zip((into for pair in by_name.values() for into in pair), found, strict=True):
        if gradient is not None:
            into.add_(gradient)


def add_head_gradient(
    gradients: Sequence[Tensor], loaded: LoadedModel, adapter: LoraAdapter, d_head: LoraMatrices
) -> None:
    """Add the gradient by the head's adapter to those of `adapter.parameters`, in place."""
    place = 2 * list(adapter.layers).index(loaded.layers["unembed"][0].layer_name)
    gradients[place].add_(d_head.a)
    gradients[place + 1].add_(d_head.b)
