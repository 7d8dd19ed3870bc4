"""Which verdicts has this run seen? Each is on record before it is used, and a resumed run takes it from there."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from crucible.errors import DataError
from crucible.framework.journal_file import JournalFile, read_records
from crucible.train.graders.graders import Graders
from crucible.train.graders.verdict import Verdict

_Key = tuple[str, str, str]
"""Place, grader, digest of the item."""


class JournalledGraders(Graders):
    """Graders whose verdicts are kept in a file: what a run has once been told stays so, whatever a second grading
    would say. `inner` is the owner's to close.

    A line is a record `{"place", "grader", "item": digest, "state", "score", "detail", "repeatable"}` under its hash.
    Their order is that in which the gradings ended. The line that a kill has cut off is dropped.

    Raises:
        DataError: if the file is damaged.
        OSError: if it cannot be opened.
    """

    def __init__(self, inner: Graders, path: Path) -> None:
        self._inner = inner
        self._known = _read(path)
        self._file = JournalFile(path)

    async def grade(self, grader: str, item: Mapping[str, Any], *, place: str) -> Verdict:
        key = (place, grader, digest(item))
        if (known := self._known.get(key)) is not None:
            return known
        verdict = await self._inner.grade(grader, item, place=place)
        # Asked for twice at once, the first answer stands: it may be in use already.
        if (known := self._known.get(key)) is not None:
            return known
        # The machine may still lose it in a power cut, with all that was made of it since the last checkpoint.
        record = dict(zip(("place", "grader", "item"), key, strict=True)) | asdict(verdict)
        self._file.append(record, durable=False)
        self._known[key] = verdict
        return verdict

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest(item: Mapping[str, Any]) -> str:
    """Of an item's JSON, its keys in order.

    Raises:
        DataError: if it is no JSON data.
    """
    try:
        text = json.dumps(item, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError.of(f"what is to be graded is no JSON data: {error}", where="an item of a grader") from error
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(path: Path) -> dict[_Key, Verdict]:
    records, good, wrong = read_records(path)
    verdicts: dict[_Key, Verdict] = {}
    for number, record in enumerate(records, start=1):
        fields = dict(record)
        try:
            key = (fields.pop("place"), fields.pop("grader"), fields.pop("item"))
            verdicts.setdefault(key, Verdict(**fields))
        except (KeyError, TypeError, AssertionError) as error:
            wrong = wrong or f"{path}:{number}: the line is no verdict: {error}"
    if wrong:
        raise DataError.of(
            f"the record of verdicts is damaged: {wrong}",
            where=str(path),
            fix="restore it from a copy, or delete it: what it held is then graded again where the run continues",
        )
    with suppress(FileNotFoundError):
        os.truncate(path, good)  # what a kill has cut off would damage the next line
    return verdicts
