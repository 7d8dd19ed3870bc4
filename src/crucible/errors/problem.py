"""What is one thing wrong with what the user gave?"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake, in the four parts that make it actionable.

    what: the mistake, as a sentence without its full stop.
    where: the place: a config key, `file:line`, a node's path; empty when the sentence says it.
    given: the offending value as the user wrote it; empty when there is none.
    fix: what to do about it, as a sentence without its full stop.
    """

    what: str
    where: str = ""
    given: str = ""
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.given:
            text += f" (given: {self.given})"
        return f"{_sentence(text)} {_sentence(self.fix[0].upper() + self.fix[1:])}" if self.fix else _sentence(text)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else text + "."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for a misspelt name: the nearest known one, or the whole list when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if names else "none are known"
