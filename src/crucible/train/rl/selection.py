"""Which groups and members does a step train on, and why not on the others?

Nothing is removed silently: every group that is left out is counted under one reason. Metrics of rewards are taken
over all groups that were rolled out, not over those kept here, or a run would look better the more it filters.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crucible.train.rl.advantages import MemberAdvantages
from crucible.train.rl.types import Trajectory, TrajectoryGroup

Removed: TypeAlias = Literal["unscored", "constant", "truncated", "empty"]
"""unscored: fewer than two members have a reward, so there is no baseline. constant: all its rewards are equal.
truncated: overlong filtering left no member to train on. empty: its members have no token."""

LeftOut: TypeAlias = Literal[
    "", "rollout failed", "no score", "no other reward in its group", "equal rewards", "cut off", "no tokens"
]
"""Why a member is not trained on; "": it is."""

REASONS: tuple[Removed, ...] = ("unscored", "constant", "truncated", "empty")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a step trains on.

    groups, advantages: those kept, in their order. removed: how many groups were not, by reason. left_out: of every
    group that was given, kept or not, why each member is not trained on.
    """

    groups: tuple[TrajectoryGroup, ...]
    advantages: tuple[MemberAdvantages, ...]
    removed: Mapping[Removed, int]
    left_out: tuple[tuple[LeftOut, ...], ...]

    def metrics(self) -> dict[str, float]:
        """Counts for `metrics.jsonl`: groups and members trained on, and groups removed by reason."""
        counts = {f"groups_removed/{reason}": float(self.removed[reason]) for reason in REASONS}
        trained = sum(reason == "" for group in self.left_out for reason in group)
        return {"groups_trained": float(len(self.groups)), **counts, "members_trained": float(trained)}


def is_constant(group: TrajectoryGroup) -> bool:
    """Whether all its scored members earned the same, so that none is better than another."""
    return len({reward for reward in group.rewards if reward is not None}) == 1


def is_scored(group: TrajectoryGroup) -> bool:
    """Whether there is a baseline: at least two members have a reward."""
    return sum(reward is not None for reward in group.rewards) >= 2


def is_truncated(trajectory: Trajectory) -> bool:
    """Whether it was cut off: at `max_tokens`, or by the model's context."""
    return trajectory.ended in ("cut", "context")


def mask_truncated(groups: Sequence[TrajectoryGroup], advantages: Sequence[MemberAdvantages]) -> list[MemberAdvantages]:
    """Overlong filtering (DAPO, arXiv:2503.14476, 3.4): members that were cut off get no loss.

    They stay part of their group's baseline, as there.
    """
    return [
        [
            None if is_truncated(trajectory) else advantage
            for trajectory, advantage in zip(group.trajectories, own, strict=True)
        ]
        for group, own in zip(groups, advantages, strict=True)
    ]


def select(
    groups: Sequence[TrajectoryGroup],
    advantages: Sequence[MemberAdvantages],
    *,
    remove_constant_reward_groups: bool,
) -> Selection:
    """The groups that have something to train on, in their order. There may be none.

    A group without a member to train on is always left out. A group of equal rewards has advantages of 0: it is
    computed in vain unless a KL penalty or dro's quadratic term gives its tokens a loss, which is why to keep it is
    a choice. Rewards are looked at as they were earned, without shaping (as DAPO filters by accuracy).
    """
    left_out = tuple(
        _left_out(group, own, remove_constant=remove_constant_reward_groups)
        for group, own in zip(groups, advantages, strict=True)
    )
    kept = [place for place, reasons in enumerate(left_out) if "" in reasons]
    removed = Counter(_removed(reasons) for reasons in left_out if "" not in reasons)
    return Selection(
        groups=tuple(groups[place] for place in kept),
        advantages=tuple(advantages[place] for place in kept),
        removed={reason: removed[reason] for reason in REASONS},
        left_out=left_out,
    )


def _left_out(group: TrajectoryGroup, own: MemberAdvantages, *, remove_constant: bool) -> tuple[LeftOut, ...]:
    constant, scored = remove_constant and is_constant(group), is_scored(group)
    reasons: list[LeftOut] = []
    for trajectory, reward, advantage in zip(group.trajectories, group.rewards, own, strict=True):
        if trajectory.failure is not None:
            reasons.append("rollout failed")
        elif reward is None:
            reasons.append("no score")
        elif not scored:
            reasons.append("no other reward in its group")
        elif constant:
            reasons.append("equal rewards")
        elif advantage is None:
            assert is_truncated(trajectory), "a scored member has an advantage"
            reasons.append("cut off")
        else:
            reasons.append("" if trajectory.tokens else "no tokens")
    return tuple(reasons)


def _removed(reasons: tuple[LeftOut, ...]) -> Removed:
    """Why a group is left out of which no member is trained on."""
    if "equal rewards" in reasons:
        return "constant"
    if "cut off" in reasons:
        return "truncated"
    return "empty" if "no tokens" in reasons else "unscored"


def groups_wanted(kept: int, *, target: int, drawn: int, limit: int) -> int:
    """Dynamic sampling (DAPO, arXiv:2503.14476, 3.2): how many more groups to roll out for this step.

    Exactly as many as are missing, so that none is rolled out in vain, and at most up to `limit` groups in all; 0: go
    on with those there are. A function of counts alone: which groups are drawn repeats with the run.

    kept: groups selected so far; target: groups to train on; drawn: groups rolled out so far, removed ones included.
    """
    assert 0 <= kept <= drawn, "only what was drawn is kept"
    return max(0, min(target - kept, limit - drawn))
