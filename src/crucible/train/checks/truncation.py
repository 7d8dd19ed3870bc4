"""What does `max_length` take away?"""

from crucible.train.checks.finding import Finding, percent, rows_text
from crucible.train.checks.seen import Examined, SeenRow
from crucible.train.data import datum_from_example

MOST = 0.5
"""When half of the rows are cut and half of what should be trained is gone, the run trains something else. A few very
long rows may hold most of the tokens: they alone do not stop it."""
WORTH_SAYING = 0.01
"""Up to one row in a hundred is the usual tail of long rows, which max_length is there for."""


def truncation(examined: Examined) -> Finding:
    """How much of the trained tokens is cut off, and which rows are cut before their first one."""
    rows, limit = examined.rendered, examined.rendering.max_length
    if not rows:
        return Finding(check="truncation", status="skipped", sentence="no row could be rendered")
    if limit is None:
        return Finding(check="truncation", status="pass", sentence="there is no max_length")
    kept = lost = 0
    cut, emptied = list[SeenRow](), list[SeenRow]()
    for row in rows:
        built = [datum_from_example(example, max_length=limit) for example in row.examples]
        kept += sum(each.trained_tokens for each in built)
        here = sum(each.cut_trained_tokens for each in built)
        lost += here
        if here:
            (cut if any(each.trained_tokens for each in built) else emptied).append(row)
    share = lost / max(kept + lost, 1)
    if not lost:
        return Finding(check="truncation", status="pass", sentence=f"max_length={limit} cuts off no trained token")
    affected = [*emptied, *cut]
    told = f"max_length={limit} cuts {percent(share)} of the trained tokens off, in {rows_text(len(affected))}"
    if emptied:
        told += f", {len(emptied):,} of them before their first trained token"
    if len(emptied) >= MOST * len(rows) or (share >= MOST and len(affected) >= MOST * len(rows)):
        status = "fail"
    else:
        status = "warn" if max(share, len(affected) / len(rows)) >= WORTH_SAYING else "pass"
    return Finding(
        check="truncation",
        status=status,
        sentence=told,
        where=affected[0].origin,
        fix="Raise max_length, or shorten those rows: a row that is cut never trains its end of turn",
    )
