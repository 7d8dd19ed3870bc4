"""What does a backend train on? Trajectories become datums, token for token as they were sampled.

Shapes: N positions of a datum, which has N + 1 tokens: position t speaks of predicting token t + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.errors import ConfigError, DataError, PortError, Problem, UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk, ModelInput, TensorData
from crucible.train.rl.advantages import MemberAdvantages
from crucible.train.rl.policy_losses import policy_loss
from crucible.train.rl.types import Trajectory, TrajectoryGroup, Transition

LengthNorm: TypeAlias = Literal["none", "sequence", "batch", "constant"]
"""What a member's tokens are divided by, all losses being sums. none: nothing (Tinker's). sequence: the member's own
number of sampled tokens, so that each member counts the same (GRPO, arXiv:2402.03300; gspo as in its paper). batch: the
mean number over the members trained on, so that each token counts the same (DAPO's token mean, arXiv:2503.14476, times
the number of members). constant: `max_tokens`, the same whatever was sampled (Dr. GRPO, arXiv:2503.20783)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RLDatum:
    """A datum of N positions, and where it came from.

    group: the group's index; member: in it; part: of the member's datums, from 0; turns: those that it holds.
    mask: (N,) bool, where the target was sampled. weights: (N,) float32, what each position's advantage was
    multiplied with for `length_norm`, 0 where nothing was sampled. advantage: the member's, before that.
    policy_version: the oldest that sampled in it; -1 where nobody knows.
    """

    datum: Datum
    group: int
    member: int
    part: int
    turns: tuple[int, ...]
    mask: NDArray[np.bool_]
    weights: NDArray[np.float32]
    advantage: float
    policy_version: int

    @property
    def place(self) -> str:
        """For messages and records: `3/0/1` is part 1 of member 0 of group 3."""
        return f"{self.group}/{self.member}/{self.part}"

    @property
    def sampler_logprobs(self) -> NDArray[np.float32]:
        """(N,), 0 where nothing was sampled."""
        return self.datum.loss_fn_inputs["logprobs"].data.astype(np.float32, copy=False)

    @property
    def advantages(self) -> NDArray[np.float32]:
        """(N,), 0 where nothing was sampled."""
        return self.datum.loss_fn_inputs["advantages"].data.astype(np.float32, copy=False)

    @property
    def sequence(self) -> ModelInput:
        """All N + 1 tokens, as `SamplingClient.compute_logprobs` takes them."""
        last = int(self.datum.loss_fn_inputs["target_tokens"].data[-1])
        return ModelInput.from_ints([*self.datum.model_input.to_ints(), last])

    def plus(self, extra: NDArray[np.floating]) -> "RLDatum":
        """With `extra` (N,), times the weights, added to the advantages: nothing is added to what was not sampled."""
        assert extra.shape == self.mask.shape, "one number per position"
        total = self.advantages.astype(np.float64) + np.where(self.mask, extra, 0.0) * self.weights
        inputs = {**self.datum.loss_fn_inputs, "advantages": TensorData(total.astype(np.float32))}
        return replace(self, datum=Datum(self.datum.model_input, inputs))


def check_length_norm(*, loss: str, length_norm: LengthNorm, max_tokens: int | None) -> None:
    """Raise ConfigError, for a plan, if the loss cannot be weighed so, or there is no constant to divide by."""
    problems: list[Problem] = []
    if length_norm != "none" and not policy_loss(loss).scales:
        what = f"loss={loss} has a term that the advantages do not weigh, so it cannot be divided by a length"
        problems.append(Problem(what=what, where="length_norm", given=length_norm, fix="Use length_norm=none"))
    if length_norm == "constant" and (max_tokens is None or max_tokens < 1):
        what = "length_norm=constant divides by max_tokens"
        problems.append(Problem(what=what, where="max_tokens", given=repr(max_tokens), fix="Give at least 1"))
    if problems:
        raise ConfigError(problems)


def assemble(
    groups: Sequence[TrajectoryGroup],
    advantages: Sequence[MemberAdvantages],
    *,
    loss: str,
    length_norm: LengthNorm = "none",
    max_tokens: int | None = None,
) -> list[RLDatum]:
    """The datums of all members that have an advantage, in the order of groups, members and parts.

    A turn whose observation begins with all that was seen and done before it continues the same datum, token for token;
    any other (history was rewritten) begins a new part, in which the earlier turns are prompt. `loss_fn_inputs` has
    exactly the tensors that the loss reads: `target_tokens`, the sampler's `logprobs`, `advantages`, and for gspo
    `sequence_ratio_mask`; all three float tensors are 0 at what was not sampled. A gspo ratio is thus that of one part.

    advantages: per group and member; None: no datum. `length_norm="batch"` looks at the groups given here, so
        it needs the whole batch at once. max_tokens: the divisor of `length_norm="constant"`.

    Raises:
        ConfigError: as `check_length_norm` says, or if the loss trains no policy.
        UnsupportedError: if an observation holds an image.
        DataError: naming every turn with an empty observation.
        PortError: naming a turn whose sampler gave a logprob that is not finite.
    """
    check_length_norm(loss=loss, length_norm=length_norm, max_tokens=max_tokens)
    members = [
        _Member(group=group.index, member=member, trajectory=trajectory, advantage=advantage)
        for group, own in zip(groups, advantages, strict=True)
        for member, (trajectory, advantage) in enumerate(zip(group.trajectories, own, strict=True))
        if advantage is not None
    ]
    _check(members)
    sampled = [one.trajectory.tokens for one in members]
    mean = sum(sampled) / max(1, len(sampled))
    divisors: dict[LengthNorm, list[float]] = {
        "none": [1.0 for _ in sampled],
        "sequence": [float(own) for own in sampled],
        "batch": [mean for _ in sampled],
        "constant": [float(max_tokens or 1) for _ in sampled],
    }
    names = policy_loss(loss).inputs
    return [
        _datum(one, place, part, names, divisor)
        for one, divisor in zip(members, divisors[length_norm], strict=True)
        for place, part in enumerate(_parts(one.trajectory))
    ]


@dataclass(frozen=True, kw_only=True)
class _Member:
    group: int
    member: int
    trajectory: Trajectory
    advantage: float


@dataclass(kw_only=True)
class _Part:
    """A datum as it grows: each token, whether it was sampled, and the sampler's logprob (0 if not)."""

    tokens: list[int] = field(default_factory=list[int])
    sampled: list[bool] = field(default_factory=list[bool])
    logprobs: list[float] = field(default_factory=list[float])
    turns: list[int] = field(default_factory=list[int])
    versions: list[int] = field(default_factory=list[int])

    def add(self, turn: int, observed: Sequence[int], transition: Transition) -> None:
        """Append what is new of the observation, and the action."""
        action, new = transition.action, observed[len(self.tokens) :]
        self.tokens += [*new, *action.tokens]
        self.sampled += [False] * len(new) + [True] * len(action.tokens)
        self.logprobs += [0.0] * len(new) + list(action.logprobs)
        self.turns.append(turn)
        self.versions.append(action.provenance.policy_version)


def _parts(trajectory: Trajectory) -> list[_Part]:
    """The fewest sequences that hold every turn as it was sampled."""
    parts: list[_Part] = []
    for turn, transition in enumerate(trajectory.transitions):
        observed = transition.observation.to_ints()
        if not parts or observed[: len(parts[-1].tokens)] != parts[-1].tokens:
            parts.append(_Part())
        parts[-1].add(turn, observed, transition)
    return [part for part in parts if any(part.sampled)]


def _datum(member: _Member, place: int, part: _Part, names: Sequence[str], divisor: float) -> RLDatum:
    mask = np.array(part.sampled[1:])
    weights = mask / divisor
    tensors = {
        "target_tokens": np.array(part.tokens[1:], dtype=np.int64),
        "logprobs": np.array(part.logprobs[1:], dtype=np.float32),
        "advantages": (weights * member.advantage).astype(np.float32),
        "sequence_ratio_mask": mask.astype(np.float32),
    }
    return RLDatum(
        datum=Datum(ModelInput.from_ints(part.tokens[:-1]), {name: TensorData(tensors[name]) for name in names}),
        group=member.group,
        member=member.member,
        part=place,
        turns=tuple(part.turns),
        mask=mask,
        weights=weights.astype(np.float32),
        advantage=member.advantage,
        policy_version=min(part.versions),
    )


def _check(members: Sequence[_Member]) -> None:
    """Raise for what no datum can be made of, all of it at once."""
    turns = [
        (f"group {one.group}, member {one.member}, turn {turn}", transition)
        for one in members
        for turn, transition in enumerate(one.trajectory.transitions)
    ]
    images = [
        Problem(what="the observation holds an image, which cannot be trained on yet", where=where)
        for where, transition in turns
        if not all(isinstance(chunk, EncodedTextChunk) for chunk in transition.observation.chunks)
    ]
    if images:
        raise UnsupportedError(images)
    empty = [
        Problem(what="the observation is empty, so that nothing predicts the first token", where=where)
        for where, transition in turns
        if transition.observation.length == 0
    ]
    if empty:
        raise DataError(empty)
    for where, transition in turns:
        if not np.isfinite(transition.action.logprobs).all():
            what = f"the sampler gave a logprob that is not finite ({where})"
            raise PortError(what, port="sampling_client", adapter="unnamed")
