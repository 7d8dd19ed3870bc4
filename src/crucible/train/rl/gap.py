"""Do sampler and trainer give the same tokens the same logprobs, and if not, why?

On-policy both are the same model on the same text, so any gap is a fault: stale weights, another prompt, tempered
logprobs, or other numerics. Such a run seems to learn for a while and then does not, which is why it stops here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.errors import Problem
from crucible.ports.datum import TensorData
from crucible.train.rl.assembly import RLDatum

Scores: TypeAlias = Sequence[NDArray[np.floating]]
"""Per datum (S,): a logprob of each of its S sampled tokens, in nats; NaN where there is none."""

Cause: TypeAlias = Literal[
    "stale_weights",
    "base_weights",
    "sampler_temperature",
    "trainer_temperature",
    "shifted",
    "text",
    "numerics",
    "unknown",
]

FITS = 0.25
"""An explanation fits if it leaves less than this share of the gap that it is to explain."""


@dataclass(frozen=True, kw_only=True)
class SamplerGap:
    """How far the sampler's logprobs of on-policy tokens are from the trainer's, in nats.

    tokens: how many were compared; mean, largest: of |q - l|; worst: the datums that are furthest off, by their place
    in the list that was given, the furthest first.
    """

    tokens: int
    mean: float
    largest: float
    worst: tuple[int, ...]

    def metrics(self) -> dict[str, float]:
        """For `metrics.jsonl`."""
        return {"sampler_gap/mean": self.mean, "sampler_gap/max": self.largest}


@dataclass(frozen=True, kw_only=True)
class GapEvidence:
    """The same sampled tokens, scored by whoever may be at fault. Datums in one order everywhere.

    reported: q, by the sampler when it drew them. session: by the session that drew them, again, on the text that is
    trained on. snapshot: by the sampler, of weights that the trainer has just saved. trainer: l. base: by the sampler,
    of the base model. tempered: as the snapshot, of the distribution at `temperature`, which the tokens were drawn at.
    drawn, read: of other tokens, that the session draws now after the same prompts: as it reports them, and as it
    scores them when it reads them. What these differ by is numerics, whatever else may be wrong.
    """

    reported: Scores
    session: Scores
    snapshot: Scores
    trainer: Scores
    base: Scores | None = None
    tempered: Scores | None = None
    drawn: Scores | None = None
    read: Scores | None = None
    temperature: float = 1.0


@dataclass(frozen=True, kw_only=True)
class GapDiagnosis:
    """Why there is a gap. distances: mean |difference| in nats of each pair that was compared, by its names."""

    cause: Cause
    what: str
    fix: str
    distances: Mapping[str, float] = field(default_factory=dict[str, float])

    def problem(self, gap: SamplerGap, *, limit: float, where: str) -> Problem:
        """What `RolloutGapError` says. where: the step."""
        measured = ", ".join(f"{pair} {distance:.3g}" for pair, distance in self.distances.items())
        shown = f" (mean distances in nats: {measured})" if measured else ""
        disagree = "sampler and trainer disagree on tokens that they should both have from the same weights"
        return Problem(
            what=f"{disagree}: {self.what}{shown}",
            where=where,
            given=f"a gap of {gap.mean:.3g} nats a token over {gap.tokens} tokens, and gap_limit={limit:g}",
            fix=self.fix,
        )


def sampler_gap(
    datums: Sequence[RLDatum], outputs: Sequence[Mapping[str, TensorData]], *, policy_version: int | None = None
) -> SamplerGap | None:
    """The gap, from a `forward` or `forward_backward` over the datums before any optimizer step; None: nothing to
    compare.

    policy_version: of the weights that are trained: only tokens that these sampled are on-policy; None: all are.
    """
    distances: dict[int, NDArray[np.float64]] = {}
    for place, (datum, output) in enumerate(zip(datums, outputs, strict=True)):
        if policy_version is None or datum.policy_version == policy_version:
            trainer = sampled_only(datum, output["logprobs"].data)
            difference = np.abs(sampled_only(datum, datum.sampler_logprobs) - trainer)
            known = difference[~np.isnan(trainer)]
            if len(known):
                distances[place] = known
    if not distances:
        return None
    every = np.concatenate(list(distances.values()))
    return SamplerGap(
        tokens=len(every),
        mean=float(every.mean()),
        largest=float(every.max()),
        worst=tuple(sorted(distances, key=lambda place: (-float(distances[place].mean()), place))),
    )


def sampled_only(datum: RLDatum, scores: NDArray[np.generic]) -> NDArray[np.float64]:
    """(S,) of (N,): those of the tokens that were sampled."""
    assert scores.shape == datum.mask.shape, "one number per target"
    return scores[datum.mask].astype(np.float64)


def diagnose(evidence: GapEvidence, *, off_policy: bool = False) -> GapDiagnosis:
    """Which explanation fits.

    From what was reported to what the trainer says there are three steps: to the same session on the text that is
    trained on, to the trainer's weights, to the trainer's own arithmetic. The fault is in the largest of them; what is
    known of base model, temperature and a shift by one token is held against that step. A first step that is
    not much larger than what the session makes of tokens that it draws now is numerics (in a coarse dtype a token is
    scored otherwise when it is drawn than when it is read).

    off_policy: other weights are meant to have sampled, so that the second step is no fault.
    """
    steps = _steps(evidence)
    faults = {pair: step for pair, step in steps.items() if not (off_policy and pair == _WEIGHTS)}
    broken = max(faults, key=lambda pair: faults[pair])
    measured: list[tuple[float, Cause, str]] = [
        (_distance(left, right), cause, pair)
        for cause, pair, left, right in _rivals(evidence, broken)
        if right is not None
    ]
    fitting = [one for one in measured if one[0] <= FITS * faults[broken]]
    cause: Cause = min(fitting)[1] if fitting else _PLAIN[broken]
    control = _control(evidence)
    if cause == "text" and control.get(_CONTROL, 0.0) >= FITS * steps[_REPORT]:
        cause = "numerics"
    what, fix = _SAID[cause]
    return GapDiagnosis(
        cause=cause,
        what=what.format(temperature=evidence.temperature),
        fix=fix,
        distances={**steps, **control, **{pair: distance for distance, _, pair in measured if not np.isnan(distance)}},
    )


def off_policy_gap(evidence: GapEvidence) -> float:
    """The gap of tokens that older weights sampled, as they were meant to: the larger of what the session that drew
    them says of them now, and of what trainer and sampler make of the same weights; mean |difference| in nats."""
    steps = _steps(evidence)
    return max(steps[_REPORT], steps[_ARITHMETIC])


_REPORT, _WEIGHTS, _ARITHMETIC = "reported-session", "session-snapshot", "snapshot-trainer"
_CONTROL = "drawn-read"

_PLAIN: Mapping[str, Cause] = {_REPORT: "text", _WEIGHTS: "stale_weights", _ARITHMETIC: "numerics"}
"""What a step means where nothing more particular explains it."""


def _steps(evidence: GapEvidence) -> dict[str, float]:
    steps = {
        _REPORT: _distance(evidence.reported, evidence.session),
        _WEIGHTS: _distance(evidence.session, evidence.snapshot),
        _ARITHMETIC: _distance(evidence.snapshot, evidence.trainer),
    }
    assert not any(np.isnan(step) for step in steps.values()), "there is a token that all have scored"
    return steps


def _control(evidence: GapEvidence) -> dict[str, float]:
    if evidence.drawn is None or evidence.read is None:
        return {}
    distance = _distance(evidence.drawn, evidence.read)
    return {} if np.isnan(distance) else {_CONTROL: distance}


def _rivals(evidence: GapEvidence, broken: str) -> list[tuple[Cause, str, Scores, Scores | None]]:
    """More particular explanations of a step: those two scores would then be the same."""
    one = evidence
    if broken == _WEIGHTS:
        return [("base_weights", "session-base", one.session, one.base)]
    if broken == _ARITHMETIC:
        return [("trainer_temperature", "trainer-tempered", one.trainer, one.tempered)]
    return [
        ("base_weights", "reported-base", one.reported, one.base),
        ("sampler_temperature", "reported-tempered", one.reported, one.tempered),
        ("shifted", "next reported-session", [_next(row) for row in one.reported], one.session),
        ("shifted", "reported-next of session", one.reported, [_next(row) for row in one.session]),
    ]


_SAID: Mapping[Cause, tuple[str, str]] = {
    "stale_weights": (
        "the sampler runs other weights than the trainer's; a fresh snapshot of these scores the tokens as the trainer",
        "Open a sampling session on the weights just saved (save_weights_for_sampler), and sample from that",
    ),
    "base_weights": (
        "the tokens were drawn from the base model; the adapter has not reached the sampler",
        "Open the sampling session with model_path of the weights just saved, not with base_model",
    ),
    "sampler_temperature": (
        "the sampler reports logprobs at temperature {temperature:g}, not the model's own",
        "Have the sampler report untempered logprobs, or sample with temperature=1",
    ),
    "trainer_temperature": (
        "the trainer's logprobs are those at temperature {temperature:g}, not the model's own",
        "Have the trainer score without a temperature",
    ),
    "shifted": (
        "the reported logprobs are those of the neighbouring tokens",
        "Give each sampled token its own logprob: look where the rollout's lists are joined",
    ),
    "text": (
        "the sampler itself scores the tokens differently on the text that is trained on, "
        "so they were sampled after another one",
        "Compare the prompt that was sampled from with the one trained on (crucible inspect run): "
        "a template, a BOS token or a turn that was tokenised again differs",
    ),
    "numerics": (
        "with the same weights and the same text they compute different numbers",
        "Sample and train in one dtype with the same kernels (float32 agrees to 1e-4), "
        "or set gap_limit to what you accept",
    ),
}


UNDIAGNOSED = GapDiagnosis(
    cause="unknown",
    what="why cannot be told, as this sampler does not score a prompt's tokens",
    fix="Look for stale weights, a temperature in the reported logprobs, another prompt or another dtype",
)
"""Of a backend whose `capabilities()` lack `prompt_logprobs`."""


def _distance(left: Scores, right: Scores) -> float:
    """Mean |difference| over the tokens that both have; NaN if there is none."""
    difference = np.concatenate([np.abs(a - b) for a, b in zip(left, right, strict=True)])
    known = difference[~np.isnan(difference)]
    return float(known.mean()) if len(known) else float("nan")


def _next(row: NDArray[np.floating]) -> NDArray[np.floating]:
    """Each token's successor's logprob."""
    return np.concatenate([row[1:], np.full(min(1, len(row)), np.nan)])
