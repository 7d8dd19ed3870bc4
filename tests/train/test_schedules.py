"""The learning rate rises, falls and ends as its schedule says."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import ConfigError
from crucible.train.schedules import SCHEDULES, lr_at


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4]),
    ],
)
def test_each_schedule_against_its_values_written_out(schedule, expected) -> None:
    assert [lr_at(step, 6, base=1.0, schedule=schedule, warmup_steps=2) for step in range(6)] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    schedule=st.sampled_from(SCHEDULES),
    total=st.integers(1, 50),
    warmup=st.integers(0, 60),
    base=st.floats(0, 1),
)
def test_a_rate_is_between_zero_and_base_and_falls_after_the_warm_up(schedule, total, warmup, base) -> None:
    rates = [lr_at(step, total, base=base, schedule=schedule, warmup_steps=warmup) for step in range(total)]
    assert all(0 <= rate <= base for rate in rates)
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[:warmup] == sorted(rates[:warmup])


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        lr_at(0, 1, base=-1.0, schedule="cosin", warmup_steps=-1)
    assert [problem.where for problem in caught.value.problems] == ["lr_schedule", "learning_rate", "warmup_steps"]
    assert caught.value.problems[0].fix == "did you mean cosine?"
