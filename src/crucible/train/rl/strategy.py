"""What becomes of a group when one of its rollouts fails? A choice that is data, made in the config."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class RolloutStrategy:
    """What to do when an environment raises, or a backend fails in a way that may pass.

    The user's own mistakes (a `ConfigError`, a missing extra), stale weights and a backend's lasting failure are
    raised whatever the strategy.

    raises: the first failure ends the run. attempts: how often a member is tried. members: how many must come to a
    reward, else the whole group is failed.
    """

    raises: ClassVar[bool] = False
    attempts: int = 1
    members: int = 0

    def __post_init__(self) -> None:
        assert self.attempts >= 1 and self.members >= 0, "a member is tried once at least"


@dataclass(frozen=True, kw_only=True)
class FailFast(RolloutStrategy):
    """The failure is raised, with a note of group, member and turn."""

    raises: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class RetryMember(RolloutStrategy):
    """The member alone starts again, in a new environment of the same seed; what was sampled before the failure is
    taken again where the same is seen again, so that a failure that passes leaves no trace in the numbers. After the
    last attempt its failure is data."""

    attempts: int = 2


@dataclass(frozen=True, kw_only=True)
class MinimumGroup(RolloutStrategy):
    """Failures are data, as long as so many members have a reward. Otherwise every member has a `Failure` that says so
    (`ended` still says how its episode did): the mean of a smaller group is too poor a baseline."""

    members: int = 2
