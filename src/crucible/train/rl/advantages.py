"""How much better than its group did each member do?"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from crucible.errors import DataError, Problem
from crucible.train.rl.types import TrajectoryGroup

AdvantageKind: TypeAlias = Literal["group_mean", "group_mean_std", "leave_one_out"]
"""group_mean: r - mean (Dr. GRPO, arXiv:2503.20783; the field's default). group_mean_std: (r - mean) / (std + eps)
(GRPO, arXiv:2402.03300). leave_one_out: r - mean of the others (RLOO, arXiv:2402.14740)."""

MemberAdvantages: TypeAlias = list[float | None]
"""Of one group's members, in their order. None: the member trains nothing."""

EPSILON = 1e-6
"""Added to a group's standard deviation, so that rounding in the rewards is not blown up to a signal."""


def advantages(
    groups: Sequence[TrajectoryGroup],
    *,
    kind: AdvantageKind,
    shaping: Sequence[Sequence[float]] | None = None,
) -> list[MemberAdvantages]:
    """Each member's advantage over the scored members of its own group.

    A member without a reward (its rollout failed, or a grader gave no score) is no part of the baseline and has no
    advantage: None. Neither has the only scored member of a group: there is nothing to compare it with. Equal rewards
    give exactly 0. A member's advantage depends on its group's rewards alone, not on their order nor on other groups.

    shaping: added to the rewards before they are compared, for each member of each group, such as
        `penalties.overlong_penalties` gives.

    Raises:
        DataError: naming every member whose reward is not finite: its environment is wrong.
    """
    added = [[0.0] * len(group.trajectories) for group in groups] if shaping is None else shaping
    problems: list[Problem] = []
    found: list[MemberAdvantages] = []
    for group, extra in zip(groups, added, strict=True):
        rewards = [None if reward is None else reward + more for reward, more in zip(group.rewards, extra, strict=True)]
        problems += _not_finite(group, rewards)
        if not problems:
            found.append(_of_group(rewards, kind))
    if problems:
        raise DataError(problems)
    return found


def _of_group(rewards: Sequence[float | None], kind: AdvantageKind) -> MemberAdvantages:
    scored = [reward for reward in rewards if reward is not None]
    if len(scored) < 2:
        return [None for _ in rewards]
    # From the lowest up, so that equal rewards differ by exactly 0 from their mean; fsum knows no order.
    lowest, count = min(scored), len(scored)
    mean = math.fsum(reward - lowest for reward in scored) / count
    if kind == "group_mean":
        scale = 1.0
    elif kind == "leave_one_out":
        scale = count / (count - 1)
    else:
        squares = math.fsum((reward - lowest - mean) ** 2 for reward in scored)
        scale = 1.0 / (math.sqrt(squares / (count - 1)) + EPSILON)
    return [None if reward is None else (reward - lowest - mean) * scale for reward in rewards]


def _not_finite(group: TrajectoryGroup, rewards: Sequence[float | None]) -> list[Problem]:
    return [
        Problem(
            what="the reward is not a finite number",
            where=f"group {group.index} ({group.problem}), member {member}",
            given=repr(reward),
            fix="Give a finite reward, or a verdict without a score where there is none",
        )
        for member, reward in enumerate(rewards)
        if reward is not None and not math.isfinite(reward)
    ]
