"""What is taken off a policy's advantages? Its distance from a reference, and answers that run too long."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crucible.errors import ConfigError, PortError, Problem
from crucible.train.rl.assembly import RLDatum
from crucible.train.rl.types import TrajectoryGroup


@dataclass(frozen=True, kw_only=True)
class KLPenalty:
    """datums: with the penalty in their advantages. kl: mean of q - reference over sampled tokens, in nats, an
    estimate of KL(policy || reference); None where nothing was sampled."""

    datums: list[RLDatum]
    kl: float | None

    def metrics(self) -> dict[str, float]:
        """By the field's name."""
        return {} if self.kl is None else {"kl_policy_base": self.kl}


def aligned(prompt_logprobs: Sequence[float | None]) -> NDArray[np.float32]:
    """`compute_logprobs` of a datum's `sequence` (N + 1, the first None) as logprobs of its N targets.

    Raises:
        PortError: if the backend left one out.
    """
    scores = prompt_logprobs[1:]
    if any(score is None for score in scores):
        raise PortError(
            "a logprob of the sequence was asked for and not given", port="sampling_client", adapter="unnamed"
        )
    return np.array(scores, dtype=np.float32)


def kl_penalty(
    datums: Sequence[RLDatum], reference_logprobs: Sequence[ArrayLike], *, coef: float, discount: float = 0.0
) -> KLPenalty:
    """Add `coef * (mean difference - difference)` to each sampled token's advantage (tinker-cookbook's form).

    The difference is q - reference, its mean is over all sampled tokens given here (so it needs the whole batch at
    once): the penalties sum to 0, and only say which tokens stray more than others. They are weighed as the
    advantages are (`length_norm`). Prompts get none.

    reference_logprobs: per datum (N,), of its targets; looked at where a token was sampled.
    discount: a token also answers for the penalties of the k-th sampled token after it, by discount ** k; 0: for its
        own alone.

    Raises:
        ConfigError: if coef is not a finite number of at least 0, or discount is not in [0, 1].
        PortError: if a reference logprob is not finite.
    """
    _check_options(coef=coef, discount=discount)
    differences = [
        _difference(datum, np.asarray(reference, dtype=np.float64))
        for datum, reference in zip(datums, reference_logprobs, strict=True)
    ]
    count = sum(len(difference) for difference in differences)
    if count == 0:
        return KLPenalty(datums=list(datums), kl=None)
    mean = float(sum(difference.sum() for difference in differences)) / count
    penalised = [
        datum.plus(_spread(datum.mask, _discounted(coef * (mean - difference), discount)))
        for datum, difference in zip(datums, differences, strict=True)
    ]
    return KLPenalty(datums=penalised, kl=mean)


def overlong_penalties(groups: Sequence[TrajectoryGroup], *, max_tokens: int, buffer: int) -> list[list[float]]:
    """DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13), as `advantages(shaping=...)` takes it.

    0 up to `max_tokens - buffer` sampled tokens of the whole trajectory, then falling linearly to -1 at `max_tokens`,
    and -1 beyond.

    Raises:
        ConfigError: unless 0 < buffer <= max_tokens.
    """
    if not 0 < buffer <= max_tokens:
        what = f"is not between 1 and max_tokens ({max_tokens})"
        raise ConfigError.of(what, where="overlong_buffer", given=repr(buffer))
    return [
        [max(-1.0, min(0.0, (max_tokens - buffer - trajectory.tokens) / buffer)) for trajectory in group.trajectories]
        for group in groups
    ]


def _check_options(*, coef: float, discount: float) -> None:
    problems: list[Problem] = []
    if not 0 <= coef < float("inf"):
        problems.append(Problem(what="is not a finite number of at least 0", where="kl_coef", given=repr(coef)))
    if not 0 <= discount <= 1:
        problems.append(Problem(what="is not between 0 and 1", where="kl_discount", given=repr(discount)))
    if problems:
        raise ConfigError(problems)


def _difference(datum: RLDatum, reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,), q - reference of the datum's S sampled tokens."""
    assert reference.shape == datum.mask.shape, "one reference logprob per target"
    known = reference[datum.mask]
    if not np.isfinite(known).all():
        what = f"the reference gave a logprob that is not finite for a token of rollout {datum.place}"
        raise PortError(what, port="sampling_client", adapter="unnamed")
    return datum.sampler_logprobs[datum.mask].astype(np.float64) - known


def _discounted(values: NDArray[np.float64], discount: float) -> NDArray[np.float64]:
    """(S,), each with those after it, by their distance in sampled tokens."""
    if discount == 0:
        return values
    summed = values.copy()
    for place in range(len(values) - 2, -1, -1):
        summed[place] += discount * summed[place + 1]
    return summed


def _spread(mask: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,), the values of the sampled tokens at their positions."""
    spread = np.zeros(len(mask))
    spread[mask] = values
    return spread
