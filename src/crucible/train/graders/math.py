# pyright: standard
# (sympy, math-verify and pylatexenc ship no types)
"""Is a mathematical answer right? Equal to the reference, however both are written: over math-verify and sympy.

Some input keeps algebra busy for ever, and nothing here limits that: the graders' pool does. math-verify's own
timeouts are off, since they are signals, which only a main thread gets. Every import is inside a function, since
most runs need none of it.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from crucible.errors import MissingExtraError
from crucible.train.graders.answers import TOLERANCE, extract_boxed, read_number
from crucible.train.graders.expressions import load_sympy, read_expression

_MOST_ANSWER = 4096
"""Characters of an answer; what is longer is none."""
_DIGITS = 30
_WRAPPED = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_MATHEMATICAL = re.compile(r"[\d\\^_=]")
_WORD = re.compile(r"[^\W\d_]{2,}(?: [^\W\d_]+)*")
_CHOICE = re.compile(r"\([A-Z]\)")
_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")


def preload() -> None:
    """Import what grading will import: the keeper of the graders does so before it forks."""
    _math_verify()


def grade_math(item: Mapping[str, Any]) -> tuple[float, str]:
    """1.0 if the prediction equals the reference mathematically, else 0.0. A grader.

    item: `reference`, `prediction` (the answer itself, or a text that has it in a box or between dollars),
    `tolerance` (1e-6, see `verify_answer`).

    Raises:
        ValueError: as `verify_answer`: then there is no score.
        MissingExtraError: if math-verify is not installed.
    """
    reference, prediction = item["reference"], item["prediction"]
    right = verify_answer(reference, prediction, tolerance=item.get("tolerance", TOLERANCE))
    return float(right), f"{_short(_bare(prediction))} against {_short(_bare(reference))}"


def verify_answer(reference: str, prediction: str, tolerance: float = TOLERANCE) -> bool:
    r"""Whether a prediction is the reference, in whatever form: `1/2`, `0.5`, `\frac12`, `50\%`; also sets, intervals,
    matrices, equations and words.

    tolerance: by how much numbers may differ: absolutely where the reference is a whole number, or below 1; else
    relative to it. A prediction that cannot be read as mathematics is right only if it is the reference's very text.

    Raises:
        ValueError: if the reference is empty, or is mathematics that cannot be read, and not the prediction's very
            text: a mistake of ours or in the data, and not in the answer.
        MissingExtraError: if math-verify is not installed.
    """
    math_verify = _math_verify()
    ours, theirs = _bare(reference), _bare(prediction)
    if not ours:
        raise ValueError("the reference is empty")
    if not theirs or len(theirs) > _MOST_ANSWER:
        return False
    if _same_words(ours, theirs):
        return True
    gold, answer = _read(ours), _read(theirs)
    if gold is None and _MATHEMATICAL.search(ours):
        raise ValueError(f"the reference {_short(ours)} cannot be read as mathematics")
    if gold is None or answer is None:
        return False
    close = _near(gold, answer, tolerance)
    if close is not None:
        return close
    return bool(math_verify.verify(gold, answer, timeout_seconds=None, raise_on_error=True))


def batch_verify(pairs: Sequence[tuple[str, str]], tolerance: float = TOLERANCE) -> list[bool]:
    """`verify_answer` of each pair (reference, prediction), in order."""
    return [verify_answer(reference, prediction, tolerance) for reference, prediction in pairs]


def simplify(expression: str) -> str:
    """The simplest form that sympy finds, in a program's notation. expression: in that notation or LaTeX.

    Raises:
        ValueError: if it cannot be read.
    """
    return str(load_sympy().simplify(_must_read(expression)))


def solve(equation: str, symbol: str | None = None) -> list[str]:
    """The solutions, in a program's notation, in sympy's order. equation: `x^2 = 4`, or an expression that shall be
    zero. symbol: for which; it may be left out if there is only one.

    Raises:
        ValueError: if it cannot be read, or does not say which symbol is meant.
    """
    sympy = load_sympy()
    sides = [_must_read(side) for side in equation.split("=")]
    if len(sides) > 2:
        raise ValueError(f"{equation!r} has more than two sides")
    whole = sides[0] - sides[1] if len(sides) == 2 else sides[0]
    symbols = {each.name: each for each in whole.free_symbols}
    if symbol is None and len(symbols) == 1:
        symbol = next(iter(symbols))
    if symbol not in symbols:
        raise ValueError(f"which of {sorted(symbols)} is to be solved for? Given: {symbol!r}")
    return [str(each) for each in sympy.solve(whole, symbols[symbol])]


def latex_to_text(latex: str) -> str:
    """LaTeX as plain text with Unicode signs, by pylatexenc.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        from pylatexenc.latex2text import LatexNodes2Text
    except ImportError as error:
        raise MissingExtraError.for_extra("math", needed_by="latex_to_text", module="pylatexenc") from error
    return LatexNodes2Text(strict_latex_spaces="based-on-source").latex_to_text(latex)


def _math_verify() -> Any:
    try:
        import math_verify
    except ImportError as error:
        raise MissingExtraError.for_extra("math", needed_by="verify_answer", module="math_verify") from error
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off, which is meant
    return math_verify


def _bare(text: str) -> str:
    """The answer without what is around it: the last box, else the last formula between dollars, else all of it."""
    boxed = extract_boxed(text)
    if boxed is not None:
        text = boxed
    wrapped = [next(part for part in groups if part) for groups in _WRAPPED.findall(text)]
    return (wrapped[-1] if wrapped else text).strip().rstrip(".").strip()


def _same_words(one: str, other: str) -> bool:
    """The same text, but for white space, `\\text{}`, brackets around a letter of a choice, and capitals in words."""
    here, there = _words(one), _words(other)
    return here == there or (_WORD.fullmatch(here) is not None and here.casefold() == there.casefold())


def _words(text: str) -> str:
    plain = " ".join(_WORDS.sub(r"\1", text).split())
    return plain[1:-1] if _CHOICE.fullmatch(plain) else plain


def _must_read(text: str) -> Any:
    expression = _read(text)
    if expression is None:
        raise ValueError(f"{text!r} is no expression")
    return expression


def _read(text: str) -> Any | None:
    """The sympy object that an answer is; None if it is none."""
    number = None if "%" in text else read_number(text)
    if number is not None:
        return load_sympy().Rational(number.numerator, number.denominator)
    return found if (found := read_expression(text)) is not None else _read_latex(text)


def _read_latex(text: str) -> Any | None:
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from math_verify.parser import parse_latex_cached

    rules = NormalizationConfig(
        basic_latex=True, units=True, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    try:
        return parse_latex_cached(normalize_latex(text, config=rules))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  (a parser's errors on a model's text have no common class)
        return None


def _near(gold: Any, answer: Any, tolerance: float) -> bool | None:
    """Whether two numbers are close enough; None if they are not both finite real numbers."""
    sympy = load_sympy()
    for each in (gold, answer):
        if not isinstance(each, sympy.Expr) or not each.is_number or not each.is_extended_real or not each.is_finite:
            return None
    scale = 1 if gold.is_integer else max(1, abs(gold.evalf(_DIGITS)))
    return bool(abs((gold - answer).evalf(_DIGITS)) <= tolerance * scale)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")
