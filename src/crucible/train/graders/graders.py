"""Who grades? Whatever can run a named grader on an item of JSON data and always comes back with a verdict."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from crucible.train.graders.verdict import Verdict


class Graders(ABC):
    """Runs graders by name. An environment gets one, and awaits its verdicts.

    A grader is a module-level function `(item: Mapping[str, Any]) -> float | Verdict | (float, detail)`, registered
    under a name; an item is JSON data, so that it can be sent to a process and written to the journal.
    """

    @abstractmethod
    async def grade(self, grader: str, item: Mapping[str, Any], *, place: str) -> Verdict:
        """The verdict. A grader that hangs, dies or raises is a verdict, not an error.

        place: where in the run the item arose (`step/group/member/turn`): one grading of it is on record there.

        Raises:
            ConfigError: if there is no grader of that name.
        """
