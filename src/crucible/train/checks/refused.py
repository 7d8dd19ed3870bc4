"""How many rows cannot be used at all, and why?"""

from collections import Counter

from crucible.train.checks.finding import Finding, percent, rows_text
from crucible.train.checks.seen import Examined

MOST = 0.5
"""When most rows are refused, the data set is read in a wrong form or by a renderer that does not fit it."""


def dropped(examined: Examined) -> Finding:
    """Rows that are no conversation, or that the renderer refuses."""
    total = len(examined.rows)
    if not total:
        return Finding(check="dropped", status="fail", sentence="there is no row to train on")
    refused = [(row, row.refused) for row in examined.rows if row.refused is not None]
    if not refused:
        return Finding(check="dropped", status="pass", sentence=f"all of {rows_text(total)} can be used")
    reason, count = Counter(problem.what for _, problem in refused).most_common(1)[0]
    place, problem = next((row, problem) for row, problem in refused if problem.what == reason)
    share = len(refused) / total
    told = f"{len(refused):,} of {rows_text(total)} ({percent(share)}) cannot be used"
    return Finding(
        check="dropped",
        status="fail" if share > MOST else "warn",
        sentence=f"{told}: {reason}" if count == len(refused) else f"{told}, {count:,} of them since {reason}",
        where=place.origin,
        fix=problem.fix or "Mend those rows, or take them out",
    )
