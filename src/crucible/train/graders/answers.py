"""Which part of a text is the answer, and is it the reference, read as words or as a number? Without any algebra."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

_BOXED = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BARE = re.compile(r"[^\s${}]+")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:\s*/\s*\d+)?|[-+]?\.\d+(?:[eE][-+]?\d{1,3})?"
)
_DRESS = re.compile(r"^[\s$€£¥]+|[\s.$€£¥]+$")
_MOST_DIGITS = 1000
TOLERANCE = 1e-6


def extract_boxed(text: str) -> str | None:
    r"""What stands in the last complete `\boxed{...}` or `\fbox{...}`, braces inside it kept; None if there is none.

    `\boxed 7` is read too, up to the next white space or `$`. An escaped brace (`\{`) closes nothing.
    """
    closing = _closing_braces(text)
    for match in reversed(list(_BOXED.finditer(text))):
        if text[match.end() : match.end() + 1] == "{":
            if match.end() in closing:
                return text[match.end() + 1 : closing[match.end()]].strip()
        elif word := _BARE.match(text, match.end()):
            return word[0]
    return None


def last_number(text: str) -> str | None:
    """The last number in a text, without separators of thousands; None if there is none."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "") if found else None


def read_number(text: str) -> Fraction | None:
    """The number that a whole text is, exactly: `1,234`, `$5.00`, `50%`, `3/4`, `-1e3`; None if it is none."""
    bare = _DRESS.sub("", text)
    per_cent = bare.endswith("%")
    match = _NUMBER.fullmatch(bare.rstrip("\\% "))
    if match is None or len(bare) > _MOST_DIGITS:
        return None
    above, _, below = match[0].replace(",", "").partition("/")
    if below and int(below) == 0:
        return None
    value = Fraction(above.strip()) / (int(below) if below else 1)
    return value / 100 if per_cent else value


def grade_exact(item: Mapping[str, Any]) -> tuple[float, str]:
    """1.0 if the prediction is the reference, or one of them, but for white space.

    item: `reference` (a text or several), `prediction`, `ignore_case` (False).
    """
    references = item["reference"]
    allowed = [references] if isinstance(references, str) else list(references)
    same = _plain(item["prediction"], item) in [_plain(each, item) for each in allowed]
    return float(same), f"{item['prediction']!r} against {' or '.join(map(repr, allowed))}"


def grade_number(item: Mapping[str, Any]) -> tuple[float, str]:
    """1.0 if both are the same number, within `tolerance` (1e-6), relative beyond 1.

    item: `reference` (a text or a number), `prediction`.

    Raises:
        ValueError: if the reference is no number: then nothing can be said of the prediction.
    """
    reference, prediction = read_number(str(item["reference"])), read_number(item["prediction"])
    if reference is None:
        raise ValueError(f"the reference {item['reference']!r} is no number")
    if prediction is None:
        return 0.0, f"{item['prediction']!r} is no number"
    close = near(reference, prediction, tolerance=item.get("tolerance", TOLERANCE))
    return float(close), f"{item['prediction']!r} against {item['reference']!r}"


def near(reference: Fraction, prediction: Fraction, *, tolerance: float) -> bool:
    """Whether they differ by at most `tolerance` times the reference, or times 1 if that is smaller."""
    return abs(reference - prediction) <= Fraction(tolerance) * max(Fraction(1), abs(reference))


def _plain(text: str, item: Mapping[str, Any]) -> str:
    words = " ".join(text.split())
    return words.casefold() if item.get("ignore_case", False) else words


def _closing_braces(text: str) -> dict[int, int]:
    """Where each brace that opens is closed; in one pass, since a model may open thousands."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing
