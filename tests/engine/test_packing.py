"""Do micro-batches keep every sequence, in order and within the budget?"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.engine.packing import Packing, micro_batches
from crucible.errors import DataError

LENGTHS = st.lists(st.integers(1, 50), max_size=30)


@given(LENGTHS, st.integers(1, 120))
def test_runs_keep_all_sequences_in_order(lengths: list[int], budget: int) -> None:
    runs = micro_batches(lengths, token_budget=budget)
    assert [index for run in runs for index in run] == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 120))
def test_a_run_is_within_the_budget_unless_it_is_one_sequence(lengths: list[int], budget: int) -> None:
    for run in micro_batches(lengths, token_budget=budget):
        assert len(run) == 1 or sum(lengths[index] for index in run) <= budget


@given(LENGTHS, st.integers(1, 120))
def test_a_run_ends_only_where_the_next_sequence_does_not_fit(lengths: list[int], budget: int) -> None:
    runs = micro_batches(lengths, token_budget=budget)
    for run, following in itertools.pairwise(runs):
        assert sum(lengths[index] for index in run) + lengths[following[0]] > budget


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_spans_tile_the_row(lengths: list[int]) -> None:
    packing = Packing(lengths=tuple(lengths))
    assert [end - start for start, end in packing.spans] == lengths
    assert [start for start, _ in packing.spans[1:]] == [end for _, end in packing.spans[:-1]]
    assert packing.spans[-1][1] == packing.total


def test_empty_sequences_are_refused_each_by_its_index() -> None:
    with pytest.raises(DataError, match=r"datum 1: .*\ndatum 3: "):
        micro_batches([3, 0, 2, 0], token_budget=8)
