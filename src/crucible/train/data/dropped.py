"""Which rows were left out, why, and where is the first of each kind?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crucible.errors import Problem, UserError


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """The rows left out for one reason: how many, where the first came from, and what was wrong with it in full."""

    count: int
    first_origin: str
    example: str


class DropCount:
    """Collects the reasons. A reason is a sentence without the row's own details, so that rows add up under it."""

    def __init__(self) -> None:
        self._by_reason: dict[str, Dropped] = {}

    def add(self, error: UserError, *, origin: str) -> None:
        """Count one row, under the first of its problems."""
        reason = error.problems[0].what
        seen = self._by_reason.get(reason)
        if seen is None:
            self._by_reason[reason] = Dropped(
                count=1, first_origin=origin, example="; ".join(str(problem) for problem in error.problems)
            )
        else:
            self._by_reason[reason] = replace(seen, count=seen.count + 1)

    def by_reason(self) -> dict[str, Dropped]:
        """The reasons, the most frequent first."""
        return dict(sorted(self._by_reason.items(), key=lambda item: -item[1].count))


def problems_of(dropped: Mapping[str, Dropped]) -> list[Problem]:
    """One problem per reason, for an error that lists them."""
    return [
        Problem(what=f"{rows.count} row(s) cannot be used, the first for this: {rows.example}", where=rows.first_origin)
        for rows in dropped.values()
    ]
