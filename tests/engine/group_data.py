"""What do the tests of shared prompts train on? Groups of ragged completions of one prompt."""

from collections.abc import Sequence

import numpy as np
import torch
from rl_data import Bench, with_inputs
from tiny_models import VOCAB

from crucible.engine.losses import LOSSES
from crucible.engine.scoring import Scores
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import LogprobsWanted


def tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng([seed, count]).integers(3, VOCAB, count).tolist()


def members(
    bench: Bench,
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    loss_fn: str,
    *,
    targets: int | None = None,
    seed: int = 0,
) -> list[Datum]:
    """Datums with every tensor that the loss reads, `targets` at a position; zeros on the prompt."""
    found: list[Datum] = []
    for place, completion in enumerate(completions):
        draw, text = np.random.default_rng([seed, place]), [*prompt, *completion]
        at = np.asarray(text[1:]) if targets is None else draw.integers(3, VOCAB, (len(text) - 1, targets))
        bare = Datum(ModelInput.from_ints(text[:-1]), {"target_tokens": TensorData(at)})
        sampled = np.zeros(at.shape)
        sampled[len(prompt) - 1 :] = 1
        logprobs = bench.score([bare], "cross_entropy").logprobs[0] + draw.normal(size=at.shape) * 0.3
        advantages = draw.normal(size=at.shape)
        given = {"weights": advantages, "advantages": advantages, "logprobs": logprobs, "sequence_ratio_mask": 1.0}
        found.append(with_inputs(bare, **{name: given[name] * sampled for name in LOSSES[loss_fn].inputs}))
    return found


def group(bench: Bench, loss_fn: str, *, prompt: int = 20, seed: int = 0, targets: int | None = None) -> list[Datum]:
    """Six members of 1 to 13 tokens; one equals another, and one is another's beginning."""
    drawn = [tokens(count, seed + place) for place, count in enumerate((5, 1, 13, 8))]
    return members(bench, tokens(prompt, seed), [*drawn, drawn[2], drawn[2][:6]], loss_fn, targets=targets, seed=seed)


def one_by_one(bench: Bench, examples: Sequence[Datum], loss_fn: str, *, wanted: LogprobsWanted = "all") -> Scores:
    """Each datum in a call of its own, which has nothing to share."""
    each = [bench.score([example], loss_fn, wanted=wanted) for example in examples]
    gradients = [sum(parts) for parts in zip(*(scores.gradients or () for scores in each), strict=True)]
    return Scores(
        logprobs=[scores.logprobs[0] for scores in each],
        losses=[scores.losses[0] for scores in each],
        metrics={"loss:sum": sum(scores.total_loss for scores in each)},
        gradients=gradients,
    )


def assert_equal(ours: Scores, theirs: Scores, *, tolerance: float = 1e-5) -> None:
    """Values to `tolerance`, gradients to that part of their norm."""
    for one, other in zip([*ours.logprobs, *ours.losses], [*theirs.logprobs, *theirs.losses], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    assert ours.gradients is not None and theirs.gradients is not None
    one, other = (torch.cat([g.flatten() for g in scores]).double() for scores in (ours.gradients, theirs.gradients))
    assert float(other.norm()) > 0 and float((one - other).norm()) <= tolerance * float(other.norm())
