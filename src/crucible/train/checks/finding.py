"""What did a check find, and how bad is it?"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["pass", "warn", "fail", "skipped"]
"""`fail` stops a run; `warn` is shown and recorded; `skipped` is a check that had nothing to look at."""

FEW_ROWS = 20
"""With fewer rows than this a share says little, so the checks of repetition and overlap warn at most."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    check: its name. sentence: what was seen, without the full stop; where a check was skipped, the reason.
    where: the first offending row, or the config key; empty where there is none. fix: what to do, likewise.
    """

    check: str
    status: Status
    sentence: str
    where: str = ""
    fix: str = ""

    def __str__(self) -> str:
        """`check: sentence. First: where. Fix.`"""
        place = f" First: {self.where}." if self.where else ""
        fix = f" {self.fix}." if self.fix else ""
        return f"{self.check}: {self.sentence}.{place}{fix}"


def percent(share: float) -> str:
    """A share as a person reads it: `0.3 %`, `34 %`."""
    return f"{share:.1%}".replace("%", " %") if 0 < share < 0.1 else f"{share:.0%}".replace("%", " %")


def rows_text(count: int) -> str:
    """`1 row`, `3 rows`."""
    return f"{count:,} row{'' if count == 1 else 's'}"
