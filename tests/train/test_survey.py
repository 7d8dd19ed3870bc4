"""A survey adds up, and data that trains nothing is refused before it costs anything."""

import pytest

from crucible.errors import DataError
from crucible.ports.dataset_store import RowSet
from crucible.train.data import Lengths, SupervisedDataset, require_trainable, survey


def dataset(renderers, rows, **options) -> SupervisedDataset:
    defaults = {"train_on": "all_assistant_messages", "max_length": 40, "batch_size": 4, "seed": 0}
    return SupervisedDataset(
        RowSet(rows, name="rows"), renderer=renderers["chatml"], row_format="question_answer", **(defaults | options)
    )


MIXED = [
    {"question": "hi", "answer": "hello"},
    {"question": "hi", "answer": "word " * 60},
    {"question": "why " * 60, "answer": "because"},
    {"question": "hi"},
]


def test_the_tokens_of_the_rendered_rows_are_kept_truncated_or_dropped(renderers) -> None:
    seen = survey(dataset(renderers, MIXED))
    assert (seen.rows, seen.surveyed, seen.rendered, seen.usable, seen.truncated) == (4, 4, 3, 2, 1)
    assert seen.tokens == seen.tokens_kept + seen.tokens_truncated + seen.tokens_dropped
    assert min(seen.tokens_kept, seen.tokens_truncated, seen.tokens_dropped, seen.tokens_trained_lost) > 0


def test_a_survey_says_what_the_batches_will_hold(renderers) -> None:
    data = dataset(renderers, MIXED)
    seen, batch = survey(data), data.render(data.epoch(0)[0])
    assert seen.tokens_trained == batch.trained_tokens
    assert seen.tokens_trained_lost == batch.cut_trained_tokens
    assert seen.tokens_kept - seen.usable == batch.tokens
    assert seen.dropped.keys() == batch.dropped.keys()


def test_lengths_are_of_the_rows_before_the_cut(renderers) -> None:
    data = dataset(renderers, [{"question": "hi", "answer": "a" * n} for n in (1, 1, 1, 90)], max_length=None)
    assert survey(data, limit=3).lengths == Lengths(min=(n := survey(data, limit=1).tokens), median=n, p95=n, max=n)
    assert survey(data).lengths.max > n


def test_only_the_first_rows_are_surveyed_when_a_limit_is_given(renderers) -> None:
    seen = survey(dataset(renderers, MIXED), limit=1)
    assert (seen.rows, seen.surveyed, seen.usable) == (4, 1, 1)


def test_nothing_rendered_has_no_lengths(renderers) -> None:
    assert survey(dataset(renderers, MIXED[3:])).lengths is None


def test_data_whose_every_row_trains_nothing_is_refused_with_the_reasons(renderers) -> None:
    data = dataset(renderers, [*MIXED[2:], {"question": "r"}])
    with pytest.raises(DataError) as caught:
        require_trainable(data)
    places = {problem.where: problem.what for problem in caught.value.problems}
    assert "2 row(s)" in places["rows row 2"]
    assert "max_length" in places["rows row 1"]


def test_data_without_a_row_is_refused(renderers) -> None:
    with pytest.raises(DataError, match="no row to train on"):
        require_trainable(dataset(renderers, []))


def test_a_single_usable_row_is_enough(renderers) -> None:
    require_trainable(survey(dataset(renderers, MIXED)))
