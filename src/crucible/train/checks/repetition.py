"""Are rows repeated, next to empty, or trained on and measured on at once?"""

import unicodedata

from crucible.train.checks.finding import FEW_ROWS, Finding, percent, rows_text
from crucible.train.checks.seen import Examined, RowKey, SeenRow
from crucible.train.messages import text_of, thinking_of

MOSTLY_REPEATED = 0.5
"""When half of the rows are copies, the data set was put together wrongly (a file read twice, a join gone wrong)."""
SOME_REPEATED = 0.01
"""Below one row in a hundred, copies are what large collections have."""
MOSTLY_EMPTY = 0.5
"""When half of the rows say nothing, a wrong column is read."""
LEAKED = 0.1
"""When a tenth of the held-out rows was trained on, the held-out loss says how well the model remembers."""


def duplicates(examined: Examined) -> Finding:
    """Rows that say exactly what an earlier one says."""
    seen, copies = set[bytes](), list[RowKey]()
    for key in examined.train:
        if key.exact in seen:
            copies.append(key)
        seen.add(key.exact)
    total = len(examined.train)
    if not total:
        return Finding(check="duplicates", status="skipped", sentence="no row is a conversation")
    if not copies:
        return Finding(check="duplicates", status="pass", sentence=f"no two of {rows_text(total)} are the same")
    share = len(copies) / total
    status = "fail" if share >= MOSTLY_REPEATED and total >= FEW_ROWS else "warn" if share >= SOME_REPEATED else "pass"
    return Finding(
        check="duplicates",
        status=status,
        sentence=f"{len(copies):,} of {rows_text(total)} ({percent(share)}) repeat an earlier one word for word",
        where=copies[0].origin,
        fix="Take the copies out: each counts as often as it stands there",
    )


def near_empty(examined: Examined) -> Finding:
    """Rows whose question or answer holds no letter, digit or symbol."""
    rows = [row for row in examined.rows if row.messages]
    if not rows:
        return Finding(check="near_empty", status="skipped", sentence="no row is a conversation")
    bare = [row for row in rows if _says_nothing(row)]
    if not bare:
        return Finding(check="near_empty", status="pass", sentence=f"all of {rows_text(len(rows))} say something")
    many = len(bare) >= MOSTLY_EMPTY * len(rows) and len(rows) >= FEW_ROWS
    return Finding(
        check="near_empty",
        status="fail" if many else "warn",
        sentence=f"{len(bare):,} of {rows_text(len(rows))} have a question or an answer without a word in it",
        where=bare[0].origin,
        fix="Take those rows out, or see whether the right columns are read",
    )


def overlap(examined: Examined) -> Finding:
    """Held-out rows that are among the training rows: exactly, or by their words."""
    total = len(examined.heldout)
    if not total:
        return Finding(check="overlap", status="skipped", sentence="there are no held-out rows")
    exact, loose = ({getattr(key, kind) for key in examined.train} for kind in ("exact", "loose"))
    same = [key for key in examined.heldout if key.exact in exact]
    alike = [key for key in examined.heldout if key.loose in loose and key.exact not in exact]
    leaked = [*same, *alike]
    if not leaked:
        told = f"none of {rows_text(total)} held out is among {rows_text(len(examined.train))} that are trained"
        return Finding(check="overlap", status="pass", sentence=told)
    return Finding(
        check="overlap",
        status="fail" if len(leaked) >= LEAKED * total and total >= FEW_ROWS else "warn",
        sentence=f"{len(leaked):,} of {rows_text(total)} held out are trained on too ({len(same):,} exactly, "
        f"{len(alike):,} but for case and punctuation)",
        where=leaked[0].origin,
        fix="Take the copies out of one of the two, or hold other rows out",
    )


def _says_nothing(row: SeenRow) -> bool:
    asked = [text_of(message) for message in row.messages if message["role"] == "user"]
    answers = [
        text_of(message) + thinking_of(message)
        for message in row.messages
        if message["role"] == "assistant" and not message.get("tool_calls")
    ]
    return (bool(asked) and not any(map(_has_words, asked))) or not all(map(_has_words, answers))


def _has_words(text: str) -> bool:
    return any(_is_said(character) for character in text)


def _is_said(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("S")
