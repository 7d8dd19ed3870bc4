"""Which part of a text is the answer, and which number is it?"""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.train.graders.answers import extract_boxed, grade_exact, grade_number, last_number, read_number

BOXED = [
    (r"so \boxed{42}.", "42"),
    (r"\boxed{1} no, \boxed{2}", "2"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{ \{1, 2\} }", r"\{1, 2\}"),
    (r"\fbox{x} \boxed{never closed", "x"),
    (r"$\boxed 7$", "7"),
    (r"\boxed {8}", "8"),
    (r"\boxed{}", ""),
    (r"\boxedge{9}", None),
    ("no box", None),
]


@pytest.mark.parametrize(("text", "answer"), BOXED)
def test_the_last_complete_box_is_the_answer(text: str, answer: str | None) -> None:
    assert extract_boxed(text) == answer


@given(st.text(alphabet="ab{}\\ $", max_size=60))
def test_what_is_put_in_a_box_comes_out_if_its_braces_close(text: str) -> None:
    found = extract_boxed(rf"\boxed{{{text}}}")
    whole = extract_boxed(rf"\boxed{{x{text.replace('{', '').replace('}', '').replace(chr(92), '')}}}")
    assert found is None or "\\boxed" not in found
    assert whole == ("x" + text.replace("{", "").replace("}", "").replace("\\", "")).strip()


def test_a_text_of_nothing_but_open_boxes_is_read_in_one_pass() -> None:
    opened = r"\boxed{" * 100_000  # hours, if each box looked for its own end
    assert extract_boxed(opened) is None
    assert extract_boxed(r"\boxed{x} " + opened) == "x"


NUMBERS = [
    ("1,234", Fraction(1234)),
    ("$5.00", Fraction(5)),
    (r"50\%", Fraction(1, 2)),
    (" -3/4 ", Fraction(-3, 4)),
    ("1e3", Fraction(1000)),
    (".5", Fraction(1, 2)),
    ("18.", Fraction(18)),
    ("1,23", None),
    ("3/0", None),
    ("seven", None),
    ("1 2", None),
    ("9" * 5000, None),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_a_whole_text_is_a_number_or_none(text: str, number: Fraction | None) -> None:
    assert read_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"), [("3 apples and 1,204.5 pears.", "1204.5"), ("= -7", "-7"), ("none", None)]
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == number


def test_numbers_are_compared_as_numbers_and_words_as_words() -> None:
    assert grade_number({"reference": "1234", "prediction": "$1,234.00"})[0] == 1.0
    assert grade_number({"reference": 1_000_000, "prediction": "1000001"})[0] == 0.0
    assert grade_number({"reference": "0.5", "prediction": "a half"}) == (0.0, "'a half' is no number")
    assert grade_exact({"reference": ["a  b", "c"], "prediction": " a b\n"})[0] == 1.0
    assert grade_exact({"reference": "Yes", "prediction": "yes"})[0] == 0.0
    assert grade_exact({"reference": "Yes", "prediction": "yes", "ignore_case": True})[0] == 1.0


def test_a_reference_that_is_no_number_is_an_error_and_no_score() -> None:
    with pytest.raises(ValueError, match="the reference 'many' is no number"):
        grade_number({"reference": "many", "prediction": "3"})
