"""Are answers told right from wrong, in whatever form they are written?"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.train.graders.math import batch_verify, grade_math, latex_to_text, simplify, solve, verify_answer

RIGHT = [
    ("1/2", "0.5"),
    ("1/2", r"\frac12"),
    ("1/2", r"\dfrac{1}{2}"),
    ("5", "x = 5"),
    ("1024", "2^{10}"),
    ("1/3", "0.333333"),
    ("42", r"The answer is \boxed{42}."),
    ("42", "It is $42$"),
    (r"\sqrt{2}", "sqrt(2)"),
    (r"\sqrt{2}", "1.41421356"),
    ("x^2-1", "(x-1)(x+1)"),
    ("x**2 - 1", "(x - 1)*(x + 1)"),
    ("blue", r"\text{Blue}"),
    ("(1,2)", "(1, 2)"),
    (r"\{1,2\}", r"\{2, 1\}"),
    ("1,234", "1234"),
    (r"50\%", "0.5"),
    ("5", r"5\text{ cm}"),
    (r"\$18", "18.00"),
    ("y=2x+1", "y=1+2x"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\infty", "oo"),
    (r"e^{2x}", r"\exp(2x)"),
    (r"\frac{\sqrt{3}}{3}", "1/sqrt(3)"),
    (r"\text{(B)}", "B"),
]
WRONG = [
    ("2", "2^{10}"),
    ("10", "10^{10^{10}}"),
    ("1/3", "0.3333"),
    ("1000000", "1000001"),
    ("1000000", "1000000.5"),
    ("2^{200}", "2^{200}+1"),
    ("[1,2]", "(1,2)"),
    ("blue", "red"),
    ("x", "1"),
    ("b", "B"),
    ("12", ""),
    ("12", "{{{"),
    ("12", "nan"),
    ("12", "12 or 13"),
    ("12", "__import__('os').abort()"),
]


@pytest.mark.parametrize(("reference", "prediction"), RIGHT)
def test_a_right_answer_is_right_in_every_form(reference: str, prediction: str) -> None:
    assert verify_answer(reference, prediction)


@pytest.mark.parametrize(("reference", "prediction"), WRONG)
def test_a_wrong_answer_is_wrong(reference: str, prediction: str) -> None:
    assert not verify_answer(reference, prediction)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**4))
@settings(max_examples=25, deadline=None)
def test_a_fraction_is_its_latex_and_no_other_number(above: int, below: int) -> None:
    sign = "-" if above < 0 else ""
    latex = rf"{sign}\frac{{{abs(above)}}}{{{below}}}"
    assert batch_verify([(latex, f"{above}/{below}"), (f"{above}/{below}", f"{above + 1}/{below}")], 1e-12) == [
        True,
        False,
    ]


def test_tolerance_is_absolute_for_whole_numbers_and_relative_for_large_ones() -> None:
    assert verify_answer("123456.78", "123456.79", tolerance=1e-6)
    assert not verify_answer("123456", "123456.01", tolerance=1e-6)
    assert verify_answer("3.0", "3.01", tolerance=0.1)


@pytest.mark.parametrize(("reference", "why"), [(" ", "is empty"), (r"\frac{1}{", "cannot be read as mathematics")])
def test_a_reference_that_nothing_can_be_compared_with_is_an_error_and_no_score(reference: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        grade_math({"reference": reference, "prediction": "1"})


def test_algebra_in_and_out_as_text() -> None:
    assert simplify("sin(x)**2 + cos(x)**2") == "1"
    assert simplify(r"\frac{x^2-1}{x-1}") == "x + 1"
    assert solve("x^2 = 4") == ["-2", "2"]
    assert solve("a*x + b", "x") == ["-b/a"]
    assert latex_to_text(r"\alpha = \frac{1}{2}") == "α = 1/2"


def test_what_cannot_be_read_or_solved_says_so() -> None:
    with pytest.raises(ValueError, match="is no expression"):
        simplify("__import__('os')")
    with pytest.raises(ValueError, match=r"which of \['a', 'x'\]"):
        solve("a*x")
