"""What does an environment know of right and wrong answers to its own problems? For the check before the first step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from crucible.train.rl.problem_env import ProblemGroupBuilder


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Turns of a policy, as texts without what ends them, and what they have to earn.

    right: earns `best`; None where no right answer is known. wrong: earns no more than `worst`.
    """

    wrong: tuple[str, ...]
    right: tuple[str, ...] | None = None
    best: float = 1.0
    worst: float = 0.0


class Rehearsed(ABC):
    """A group builder that knows a wrong, and usually a right, answer to its own problem."""

    @property
    @abstractmethod
    def rehearsal(self) -> Rehearsal:
        """Them."""


@dataclass(frozen=True, kw_only=True)
class RehearsedProblem(ProblemGroupBuilder, Rehearsed):
    """`group_size` attempts at one problem whose answer is known."""

    known: Rehearsal

    @property
    def rehearsal(self) -> Rehearsal:
        return self.known
