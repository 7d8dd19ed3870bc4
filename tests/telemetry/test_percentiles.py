"""Are the percentiles within their stated error, in bounded memory, for any values?"""

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console as RichConsole

from crucible.telemetry import Bus
from crucible.telemetry.percentiles import Durations, Percentiles

VALUES = st.lists(st.just(0.0) | st.floats(1e-300, 1e300), min_size=1, max_size=200)


def sketch(values, **options) -> Percentiles:
    percentiles = Percentiles(**options)
    for value in values:
        percentiles.add(value)
    return percentiles


@given(values=VALUES, q=st.floats(0, 1), error=st.sampled_from([0.001, 0.01, 0.2]))
def test_an_estimate_is_within_the_relative_error_of_the_value_of_that_rank(values, q, error):
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    estimate = sketch(values, relative_error=error, max_buckets=10_000).quantile(q)
    assert abs(estimate - exact) <= error * exact * (1 + 1e-9)


@given(values=VALUES)
def test_when_buckets_run_out_the_highest_values_keep_their_error(values):
    percentiles = sketch(values, max_buckets=2)
    assert abs(percentiles.quantile(1) - max(values)) <= 0.01 * max(values) * (1 + 1e-9)
    assert percentiles.count == len(values)


def test_memory_is_bounded_whatever_comes():
    percentiles = Percentiles(max_buckets=100)
    for exponent in range(-2000, 2000):
        percentiles.add(1.1**exponent)
    assert len(percentiles._buckets) == 100 and percentiles.count == 4000


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e-310])
def test_a_value_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="a value is 0 or from"):
        Percentiles().add(value)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_from_0_to_1_of_at_least_one_value(q):
    with pytest.raises(ValueError, match="a quantile is from 0 to 1"):
        sketch([1.0]).quantile(q)
    with pytest.raises(ValueError, match="of 0"):
        Percentiles().quantile(0.5)


@pytest.mark.parametrize("options", [{"relative_error": 0}, {"relative_error": 1}, {"max_buckets": 1}])
def test_a_sketch_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match="0 < relative_error < 1"):
        Percentiles(**options)


def test_durations_are_kept_per_stage_and_the_dearest_comes_first():
    durations, bus = Durations(), Bus()
    bus.attach("durations", durations.events, durations)
    for milliseconds in range(1, 101):
        bus.emit("stage.stop", {"duration_ns": milliseconds * 1_000_000}, {"path": "w > a", "stage": "a"})
    bus.emit("stage.exception", {"duration_ns": 10**11}, {"path": "w > b", "stage": "b"})
    bus.emit("stage.exception", {"duration_ns": 0}, {"path": "w > b", "stage": "b", "skipped": True})
    dearest, stage = durations.stages()
    assert (dearest.path, dearest.count, stage.path, stage.count) == ("w > b", 1, "w > a", 100)
    assert [stage.p50, stage.p95, stage.p99] == pytest.approx([0.050, 0.095, 0.099], rel=0.01)
    assert stage.total == pytest.approx(5.05)


def test_the_table_is_printed_once_at_the_end():
    text = io.StringIO()
    durations, bus = Durations(RichConsole(file=text, width=100)), Bus()
    bus.attach("durations", durations.events, durations)
    bus.emit("stage.stop", {"duration_ns": 2_000_000}, {"path": "w > a"})
    durations.close()
    durations.close()
    heading, row = text.getvalue().splitlines()
    assert heading.split() == ["stage", "turns", "total", "s", "p50", "ms", "p95", "ms", "p99", "ms"]
    assert row.startswith("w > a") and " 1 " in row
