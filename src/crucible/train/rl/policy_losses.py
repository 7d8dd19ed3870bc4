"""Which losses train a policy, what does each read, and where does it clip?

The facts of `TrainingClient.forward_backward`, for those that make its datums and read its results. q is the sampler's
logprob, l the trainer's, A the advantage, r = exp(l - q).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from crucible.errors import ConfigError, Problem, did_you_mean

LOW, HIGH, BETA = "clip_low_threshold", "clip_high_threshold", "beta"


@dataclass(frozen=True, kw_only=True)
class PolicyLoss:
    """One loss.

    config: its settings with their defaults; thresholds are of the ratio itself (0.8 and 1.2, not 0.2).
    per_sequence: the ratio is one number of the whole sequence, and `sequence_ratio_mask` says over which positions.
    stops_at_clip: a clipped ratio has no gradient (ppo's minimum); otherwise only the ratio's size is bounded.
    scales: the loss is proportional to the advantages, so that a weight put into them weighs the whole loss.
    """

    config: Mapping[str, float]
    per_sequence: bool = False
    stops_at_clip: bool = False
    scales: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads; it refuses any other."""
        mask = ("sequence_ratio_mask",) if self.per_sequence else ()
        return ("target_tokens", "logprobs", "advantages", *mask)


POLICY_LOSSES: Mapping[str, PolicyLoss] = MappingProxyType(
    {
        "importance_sampling": PolicyLoss(config={}),
        "ppo": PolicyLoss(config={LOW: 0.8, HIGH: 1.2}, stops_at_clip=True),
        "cispo": PolicyLoss(config={LOW: 0.0, HIGH: 4.0}),
        "gspo": PolicyLoss(config={LOW: 0.8, HIGH: 1.2}, stops_at_clip=True, per_sequence=True),
        "dro": PolicyLoss(config={BETA: 0.05}, scales=False),
    }
)
"""By the name that `loss_fn` takes."""


def policy_loss(name: str) -> PolicyLoss:
    """The loss of that name.

    Raises:
        ConfigError: if there is none, or it trains no policy.
    """
    if name not in POLICY_LOSSES:
        raise ConfigError.of(
            "is no loss that trains a policy", where="loss", given=name, fix=did_you_mean(name, POLICY_LOSSES)
        )
    return POLICY_LOSSES[name]


def loss_fn_config(
    name: str, *, clip_low: float | None = None, clip_high: float | None = None, beta: float | None = None
) -> dict[str, float]:
    """The loss's whole `loss_fn_config`: its defaults, and what was given.

    clip_low, clip_high: thresholds of the ratio, such as 0.8 and 1.28 (DAPO's clip-higher, arXiv:2503.14476).

    Raises:
        ConfigError: naming every value that the loss does not have, or that cannot be.
    """
    known = policy_loss(name).config
    asked = {LOW: clip_low, HIGH: clip_high, BETA: beta}
    config = {key: known[key] if asked[key] is None else float(asked[key] or 0.0) for key in known}
    problems = [
        Problem(what=f"loss={name} has no such setting", where=short, given=repr(asked[key]), fix=f"Leave {short} out")
        for key, short in ((LOW, "clip_low"), (HIGH, "clip_high"), (BETA, "beta"))
        if asked[key] is not None and key not in known
    ]
    if LOW in config and not 0 <= config[LOW] <= 1:
        problems.append(Problem(what="is not between 0 and 1", where="clip_low", given=repr(config[LOW])))
    if HIGH in config and not 1 <= config[HIGH] < float("inf"):
        problems.append(
            Problem(
                what="is no threshold of a ratio from 1 up",
                where="clip_high",
                given=repr(config[HIGH]),
                fix="Give the ratio, such as 1.2, not how far it may be from 1",
            )
        )
    if BETA in config and not 0 <= config[BETA] < float("inf"):
        problems.append(Problem(what="is not a finite number of at least 0", where="beta", given=repr(config[BETA])))
    if problems:
        raise ConfigError(problems)
    return config
