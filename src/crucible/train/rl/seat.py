"""Where does one member's environment stand: in which group, and as which of its members?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crucible.train.graders.verdict import Verdict
from crucible.train.rl.types import Surroundings
from crucible.train.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Member `member` of the group whose surroundings these are. All of an environment's chance and verdicts come
    through it."""

    surroundings: Surroundings
    member: int

    def group_generator(self, purpose: str, *indices: int) -> np.random.Generator:
        """Chance that every member of the group shares: what makes them attempts at one problem."""
        return generator(self.surroundings.seed, purpose, *indices)

    def generator(self, purpose: str, *indices: int) -> np.random.Generator:
        """Chance of this member alone."""
        return generator(self.surroundings.seed, f"member: {purpose}", self.member, *indices)

    async def grade(self, grader: str, item: Mapping[str, Any], *, turn: int = 0) -> Verdict:
        """The verdict of the grader of that name on `item` (JSON data), on record for this member and turn.

        Raises:
            ConfigError: if there is no grader of that name.
        """
        place = f"{self.surroundings.place}/{self.member}/{turn}"
        return await self.surroundings.graders.grade(grader, item, place=place)
