# pyright: standard
# (torch.autograd.grad is loosely typed)
"""How do the waiting calls of several sessions go through the base model together?

One packed row holds sequences of several adapters: the frozen weights multiply all of it, each adapter its own part
(`MixedAdapters`), the head and the loss work part by part, and one backward pass gives every adapter its gradient.
A micro-batch takes one row of each call in turn until the token budget is full; calls join between two micro-batches.
Numbers equal those of a session alone to rounding.
"""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from crucible.engine.lora import LoraAdapter
from crucible.engine.lora_mixed import MixedAdapters
from crucible.engine.losses import Loss
from crucible.engine.micro_batch import Batch, BatchScores, add_head_gradient, score_hidden
from crucible.engine.model import LoadedModel
from crucible.engine.packing import Packing
from crucible.engine.prefix_tree import PrefixTree
from crucible.engine.rows import Row
from crucible.engine.scoring import Scores, Tally
from crucible.engine.shared_prompts import Plan, plan
from crucible.ports.training_client import LogprobsWanted


@dataclass(kw_only=True, eq=False)
class _Call:
    """A call on its way: `next` is the place in its order of the first row that was not computed."""

    loaded: LoadedModel
    adapter: LoraAdapter
    plan: Plan
    loss: Loss
    config: Mapping[str, float]
    wanted: LogprobsWanted
    backward: bool
    tally: Tally
    next: int = 0
    done: "Future[Scores]" = field(default_factory=Future)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A call's rows with the indices `run` in a micro-batch, at (start, end) of its tokens."""

    call: _Call
    run: Sequence[int]
    batch: Batch
    span: tuple[int, int]


def can_mix(loaded: LoadedModel) -> bool:
    """Whether every layer that can carry an adapter reads all tokens, in their order: no expert of a router does."""
    return not any(".experts." in layer.layer_name for layers in loaded.layers.values() for layer in layers)


class Mixer:
    """Calls that wait to be scored. Only the engine's thread uses it.

    token_budget: most tokens in one micro-batch; a longer sequence goes alone.
    """

    def __init__(self, *, token_budget: int) -> None:
        self._token_budget = token_budget
        self._calls: list[_Call] = []

    @property
    def busy(self) -> bool:
        """Whether a call is not done."""
        return bool(self._calls)

    def submit(
        self,
        loaded: LoadedModel,
        adapter: LoraAdapter,
        rows: Sequence[Row],
        *,
        loss: Loss,
        config: Mapping[str, float],
        wanted: LogprobsWanted,
        backward: bool,
    ) -> "Future[Scores]":
        """Queue a call; as `scoring_steps`."""
        call = _Call(
            loaded=loaded,
            adapter=adapter,
            plan=plan(rows, loss=loss, wanted=wanted, can_share=loaded.shares),
            loss=loss,
            config=config,
            wanted=wanted,
            backward=backward,
            tally=Tally(adapter, rows, loss=loss, config=config, backward=backward),
        )
        self._calls.append(call)
        return call.done

    def fail(self, error: Exception) -> None:
        """Fail every call that is not done."""
        calls, self._calls = self._calls, []
        for call in calls:
            call.done.set_exception(error)

    def step(self) -> None:
        """One micro-batch, of the calls that can share it with the one that has waited longest."""
        first = self._calls[0]
        sharing = [call for call in self._calls if call.loaded is first.loaded and call.backward == first.backward]
        # Who shared this one is behind those who could not.
        self._calls = [call for call in self._calls if call not in sharing] + sharing
        parts = self._parts(sharing)
        if parts:
            try:
                _score(first.loaded, parts, backward=first.backward)
            except Exception as error:  # noqa: BLE001  (it is that of every call in the micro-batch)
                for part in parts:
                    self._end(part.call, error)
        for call in [call for call in sharing if call in self._calls and call.next == len(call.plan.order)]:
            self._end(call)

    def _parts(self, calls: Sequence[_Call]) -> list[_Part]:
        """The next micro-batch: rows of the calls in turn, each call's together."""
        taken = dict.fromkeys(calls, 0)
        room = self._token_budget
        for call in itertools.cycle(calls):
            open_calls = [each for each in calls if each.next + taken[each] < len(each.plan.order)]
            if not open_calls:
                break
            if call not in open_calls:
                continue
            length = call.plan.cost(call.next + taken[call], first=not taken[call])
            if length > room and room < self._token_budget:
                break
            taken[call] += 1
            room -= length
        parts: list[_Part] = []
        end = 0
        for call in (each for each in calls if taken[each]):
            run = call.plan.order[call.next : call.next + taken[call]]
            batch = Batch(call.plan.taken(run), device=call.loaded.device)
            start, end = end, end + batch.computed
            parts.append(_Part(call=call, run=run, batch=batch, span=(start, end)))
            call.next += taken[call]
        return parts

    def _end(self, call: _Call, error: Exception | None = None) -> None:
        self._calls.remove(call)
        try:
            if error is not None:
                raise error
            scores = call.tally.scores()
        except Exception as failure:  # noqa: BLE001  (a future carries whatever was raised to its reader)
            call.done.set_exception(failure)
        else:
            call.done.set_result(scores)


def _score(loaded: LoadedModel, parts: Sequence[_Part], *, backward: bool) -> None:
    """Compute a micro-batch, and put each part's scores and gradients where they belong."""
    mixed = MixedAdapters(adapters=[part.call.adapter for part in parts], spans=[part.span for part in parts])
    with loaded.active.use_instead(mixed), torch.set_grad_enabled(backward):
        hidden = _hidden_states(loaded, [part.batch for part in parts])
    scored = [_of_head(loaded, part, hidden.detach()[slice(*part.span)]) for part in parts]
    if backward:
        _backward(loaded, parts, hidden, scored)
    for part, scores in zip(parts, scored, strict=True):
        logprobs, losses = scores.logprobs.cpu().numpy(), scores.losses.cpu().numpy()
        part.call.tally.put(part.run, part.batch, logprobs=logprobs, losses=losses)


def _hidden_states(loaded: LoadedModel, batches: Sequence[Batch]) -> torch.Tensor:
    """The batches' computed tokens, one batch after the other."""
    if any(batch.tree is not None for batch in batches):
        return loaded.shared_hidden_states(PrefixTree.joined([batch.as_tree() for batch in batches]))
    tokens = torch.cat([batch.tokens for batch in batches])
    packing = Packing(lengths=tuple(length for batch in batches for length in batch.packing.lengths))
    return loaded.hidden_states(tokens.to(loaded.device), packing)


@torch.no_grad()
def _of_head(loaded: LoadedModel, part: _Part, hidden: torch.Tensor) -> BatchScores:
    call = part.call
    return score_hidden(
        loaded,
        call.adapter,
        part.batch,
        hidden,
        loss=call.loss,
        config=call.config,
        wanted=call.wanted,
        backward=call.backward and len(part.batch.active) > 0,
    )


def _backward(loaded: LoadedModel, parts: Sequence[_Part], hidden: torch.Tensor, scored: Sequence[BatchScores]) -> None:
    """One backward pass through the body for all parts that have a loss."""
    d_hidden = torch.zeros_like(hidden)
    trained: list[tuple[_Part, BatchScores]] = []
    for part, scores in zip(parts, scored, strict=True):
        if scores.d_hidden is not None:
            d_hidden[slice(*part.span)] = scores.d_hidden
            trained.append((part, scores))
    for part, scores in trained:
        if scores.d_head is not None:
            add_head_gradient(_gradients(part), loaded, part.call.adapter, scores.d_head)
    if not trained or not hidden.requires_grad:  # the head alone has an adapter
        return
    matrices = [matrix for part, _ in trained for matrix in part.call.adapter.parameters]
    into = [gradient for part, _ in trained for gradient in _gradients(part)]
    # The head's matrices are not part of the body: allow_unused.
    found = torch.autograd.grad(hidden, matrices, d_hidden, allow_unused=True)
    for gradient, more in zip(into, found, strict=True):
        if more is not None:
            gradient.add_(more)


def _gradients(part: _Part) -> list[torch.Tensor]:
    assert part.call.tally.gradients is not None
    return part.call.tally.gradients
