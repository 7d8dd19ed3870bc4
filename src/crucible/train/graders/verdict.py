"""What does a grader say of an answer? A score, or why there is none: never a silent 0."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

VerdictState: TypeAlias = Literal["score", "invalid", "timed_out"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A grader's answer about one item.

    state: `score`; `invalid`: the grader failed (it raised, died, ran out of memory, or returned no number);
    `timed_out`: it was ended at its limit. score: only with `score`, a finite number; 1.0 is right, 0.0 wrong, unless
    the grader says otherwise. detail: one line for a person: what was compared, or how the grader failed.
    repeatable: False where the outcome depended on the clock of a wall (the last resort behind the limit on CPU time).
    """

    state: VerdictState
    score: float | None = None
    detail: str = ""
    repeatable: bool = True

    def __post_init__(self) -> None:
        assert (self.state == "score") == (self.score is not None), "a score, or a reason why there is none"

    @classmethod
    def of(cls, score: float, detail: str = "") -> "Verdict":
        """The item was graded."""
        return cls(state="score", score=float(score), detail=detail)

    @classmethod
    def invalid(cls, detail: str, *, repeatable: bool = True) -> "Verdict":
        """The grader failed; the item has no score."""
        return cls(state="invalid", detail=detail, repeatable=repeatable)

    @classmethod
    def timed_out(cls, detail: str, *, repeatable: bool = True) -> "Verdict":
        """The grader was ended at its limit; the item has no score."""
        return cls(state="timed_out", detail=detail, repeatable=repeatable)
