"""Does every problem come once per epoch, in an order that only the seed decides?"""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import ConfigError, DataError
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.problem_env import ProblemGroupBuilder

SIZES = st.integers(1, 30)


def named(problem: object) -> ProblemGroupBuilder:
    return ProblemGroupBuilder(make_env=lambda _: None, group_size=2, name=str(problem), tagged=("made",))


def dataset(size: int, batch: int, **options: object) -> ProblemDataset[int]:
    return ProblemDataset(range(size), named, **{"groups_per_batch": batch, "seed": 7, **options})


@given(SIZES, SIZES, st.integers(1, 3))
def test_each_epoch_has_every_problem_once_and_batches_run_on_over_its_end(size: int, batch: int, epochs: int) -> None:
    made = dataset(size, batch)
    count = -(-size * epochs // batch)
    places = [place for index in range(count) for place in made.places(index)]
    assert [len(made.get_batch(index)) for index in range(count)] == [batch] * count
    for epoch in range(epochs):
        assert sorted(places[epoch * size : (epoch + 1) * size]) == list(range(size))


@given(SIZES, SIZES, st.integers(0, 40))
def test_a_batch_is_a_function_of_its_index_whatever_was_asked_before(size: int, batch: int, index: int) -> None:
    asked_about = dataset(size, batch)
    for other in (9, 0, index + 3):
        asked_about.get_batch(other)
    assert asked_about.places(index) == dataset(size, batch).places(index)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    made = dataset(50, 50)
    assert len({tuple(made.places(epoch)) for epoch in range(3)} | {tuple(dataset(50, 50, seed=8).places(0))}) == 4


def test_without_shuffling_problems_come_as_they_are_given() -> None:
    assert dataset(5, 3, shuffle=False).places(1) == [3, 4, 0]


def test_a_batch_is_the_groups_of_its_problems() -> None:
    made = dataset(5, 3, shuffle=False)
    assert [(group.problem, group.tags) for group in made.get_batch(0)] == [(str(n), ("made",)) for n in range(3)]
    assert len(made) == 2


@dataclass(frozen=True)
class Row:
    question: str
    answers: tuple[int, ...]


def fingerprint(problems: list[object]) -> str:
    return ProblemDataset(problems, named, groups_per_batch=1, seed=0).fingerprint()


def test_the_fingerprint_is_of_what_the_problems_say_in_their_order() -> None:
    rows: list[object] = [Row("a", (1,)), {"b": 2, "a": 1}]
    assert fingerprint(rows) == fingerprint([Row("a", (1,)), {"a": 1, "b": 2}])
    assert len({fingerprint(rows), fingerprint(rows[::-1]), fingerprint([Row("a", (2,)), rows[1]])}) == 3


def test_problems_that_are_no_data_have_no_fingerprint() -> None:
    assert fingerprint([object()]) == ""


def test_no_problems_and_no_groups_are_refused() -> None:
    with pytest.raises(DataError, match="no problem"):
        dataset(0, 1)
    with pytest.raises(ConfigError, match="groups_per_batch"):
        dataset(1, 0)
