"""What does a file reader give, and what happens to the lines that are wrong?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from crucible.errors import DataError, Problem
from crucible.ports.dataset_store import Row

MOST_SHOWN = 20
"""Problems shown of one file: enough to see the pattern."""


@dataclass(frozen=True)
class Record:
    """A row and where it came from, as `file:line` or `file row n`."""

    row: Row
    origin: str


Item: TypeAlias = Record | Problem
"""What a reader yields: it goes on after a problem where it can."""


def checked(items: Iterable[Item], *, name: str) -> Iterator[Record]:
    """The records, up to the first problem; then the problems, at most 20 of them, as one error.

    name: the data set, for the message when there is nothing in it.

    Raises:
        DataError: if there is a problem, or no record at all.
    """
    problems: list[Problem] = []
    count = 0
    for item in items:
        if isinstance(item, Problem):
            problems.append(item)
            if len(problems) == MOST_SHOWN:
                break
        elif not problems:
            count += 1
            yield item
    if problems:
        raise DataError(problems)
    if not count:
        raise DataError.of("there are no rows in it", where=name)
