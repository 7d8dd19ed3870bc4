"""When does a condition hold?"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import slot

from crucible.framework import And, Compare, Condition, Every, Named, Not, Or, register_condition
from crucible.framework.conditions import Operator, holds, registered_conditions

n = slot("n", int)
YES, NO = Compare(n, "==", 0), Compare(n, "!=", 0)


def true(condition: Condition, value: Any = 0, *, iteration: int = 1) -> bool:
    return holds(condition, read=lambda _: value, iteration=iteration)


@given(st.integers(1, 50), st.integers(1, 9))
def test_every_holds_at_the_positive_multiples(count: int, n_every: int) -> None:
    assert true(Every(n_every), iteration=count) == (count % n_every == 0) == true(Every(n_every, n), count)


def test_every_zero_never_holds_and_neither_does_any_every_at_zero() -> None:
    assert not true(Every(0), iteration=5)
    assert not true(Every(0, n), 5)
    assert not true(Every(3, n), 0)


@given(st.integers(), st.integers())
def test_compare_is_pythons_own_comparison(left: int, right: int) -> None:
    expected: dict[Operator, bool] = {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }
    assert {op: true(Compare(n, op, right), left) for op in expected} == expected


def test_and_or_and_not_are_pythons_own() -> None:
    assert true(And(YES, YES)) and not true(And(YES, NO)) and true(And())
    assert true(Or(NO, YES)) and not true(Or(NO, NO)) and not true(Or())
    assert true(Not(NO)) and not true(Not(YES))


def test_a_named_condition_is_called_with_its_slots_values_and_options() -> None:
    @register_condition("above")
    def above(*, value: int, limit: int) -> bool:
        return value > limit

    assert "above" in registered_conditions()
    assert true(Named("above", {"limit": 3}, {"value": n}), 4)
    assert not true(Named("above", {"limit": 3}, {"value": n}), 3)


def test_a_taken_name_is_refused() -> None:
    register_condition("mine")(bool)
    with pytest.raises(ValueError, match="the condition 'mine' is registered already"):
        register_condition("mine")(all)
