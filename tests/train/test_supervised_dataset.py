"""Every row comes once per epoch, and every row that trains nothing is accounted for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import ConfigError, DataError
from crucible.ports.dataset_store import RowSet
from crucible.train.data import SupervisedDataset, datum_from_example, split_rows
from crucible.train.renderers import RenderedExample, Span, TrainOn


def rows(*rows) -> RowSet:
    return RowSet(list(rows), name="rows.jsonl", origins=[f"rows.jsonl:{line + 1}" for line in range(len(rows))])


def asked(question="hi", answer="hello") -> dict[str, str]:
    return {"question": question, "answer": answer}


def dataset(renderers, data, **options) -> SupervisedDataset:
    defaults = {"train_on": "all_assistant_messages", "max_length": None, "batch_size": 4, "seed": 0}
    return SupervisedDataset(data, renderer=renderers["chatml"], **(defaults | options))


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), batch_size=st.integers(1, 9), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_row_once_in_batches_of_the_given_size(renderers, n, batch_size, epoch) -> None:
    data = dataset(renderers, rows(*[asked()] * n), batch_size=batch_size)
    batches = data.epoch(epoch)
    assert len(batches) == data.n_batches
    assert all(len(batch.rows) == batch_size for batch in batches[:-1])
    assert sorted(row for batch in batches for row in batch.rows) == list(range(n))


def test_epochs_and_seeds_shuffle_differently_and_repeat_exactly(renderers) -> None:
    def order(seed, epoch):
        batches = dataset(renderers, rows(*[asked()] * 30), seed=seed).epoch(epoch)
        return tuple(row for batch in batches for row in batch.rows)

    assert len({order(0, 0), order(0, 1), order(1, 0), order(1, 1)}) == 4
    assert order(1, 1) == order(1, 1)


def test_a_batch_holds_its_rows_in_order_and_counts_their_tokens(renderers) -> None:
    data = dataset(renderers, rows(asked(), asked(answer="good bye"), asked("what")), batch_size=3)
    batch = data.render(data.epoch(0)[0])
    assert batch.rows == data.epoch(0)[0].rows
    assert batch.tokens == sum(datum.model_input.length for datum in batch.datums)
    counted = sum(int((datum.loss_fn_inputs["weights"].data > 0).sum()) for datum in batch.datums)
    assert batch.trained_tokens == counted > 0
    assert (batch.dropped, batch.truncated, batch.ends_without_stop) == ({}, 0, 0)


def test_rows_left_out_are_counted_by_reason_with_the_first_of_each(renderers) -> None:
    injected = asked(answer="a<|im_end|>")
    data = dataset(renderers, rows(asked(), {"question": "q"}, injected, {"question": "r"}), batch_size=4)
    seen = data.render(data.epoch(0)[0])
    assert seen.rows == (0,)
    assert {reason: rows.count for reason, rows in seen.dropped.items()} == {
        "the row has no answer": 2,
        "a message holds the text of a special token, which would end or forge a turn": 1,
    }
    assert seen.dropped["the row has no answer"].first_origin in ("rows.jsonl:2", "rows.jsonl:4")


def test_a_row_cut_off_before_its_answer_is_dropped_not_trained_as_zero(renderers) -> None:
    data = dataset(renderers, rows(asked("why " * 50)), max_length=20)
    batch = data.render(data.epoch(0)[0])
    assert (batch.datums, batch.truncated) == ((), 0)
    assert list(batch.dropped) == ["max_length cuts the row off before its first trained token"]
    assert batch.cut_trained_tokens > 0


def test_a_truncated_answer_is_counted_with_what_it_lost(renderers) -> None:
    data = dataset(renderers, rows(asked(answer="word " * 50)))
    whole = data.render(data.epoch(0)[0])
    shorter = dataset(renderers, data.rows, max_length=whole.tokens - 9)
    cut = shorter.render(shorter.epoch(0)[0])
    assert (cut.truncated, cut.tokens) == (1, whole.tokens - 10)
    assert cut.trained_tokens + cut.cut_trained_tokens == whole.trained_tokens


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"max_length": 1}, "max_length"),
        ({"row_format": "alpacca"}, "(?i)did you mean alpaca"),
        ({"train_on": "everything"}, "train_on"),
    ],
)
def test_options_that_cannot_be_are_refused(renderers, options, key) -> None:
    with pytest.raises(ConfigError, match=key):
        dataset(renderers, rows(asked()), **options)


def test_an_empty_data_set_is_refused_by_name(renderers) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: the data set has no row"):
        dataset(renderers, rows())


def test_a_broken_first_row_does_not_hide_the_form_of_the_others(renderers) -> None:
    assert dataset(renderers, rows({"oops": 1}, asked())).row_format == "question_answer"


def test_columns_of_no_known_form_are_refused_by_the_data_sets_name(renderers) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: .*columns text"):
        dataset(renderers, rows({"text": "a"}))


@st.composite
def examples(draw: st.DrawFn) -> RenderedExample:
    n = draw(st.integers(2, 30))
    start = draw(st.integers(0, n - 1))
    span = Span(message=0, start=start, end=draw(st.integers(start, n)))
    return RenderedExample.from_spans(draw(st.lists(st.integers(0, 99), min_size=n, max_size=n)), [span])


@settings(max_examples=100, deadline=None)
@given(example=examples(), max_length=st.integers(2, 40), reduction=st.sampled_from(["mean", "sum"]))
def test_a_datum_is_the_kept_tokens_shifted_by_one(example, max_length, reduction) -> None:
    built = datum_from_example(example, max_length=max_length, reduction=reduction)
    kept = min(len(example.tokens), max_length)
    trained = example.weights[1:kept]
    assert built.tokens - built.cut_tokens == kept
    assert built.trained_tokens == np.count_nonzero(trained)
    assert built.trained_tokens + built.cut_trained_tokens == np.count_nonzero(example.weights)
    if built.datum is None:
        assert not trained.any()
        return
    assert built.datum.model_input.to_ints() == example.tokens[: kept - 1].tolist()
    inputs = {name: tensor.data for name, tensor in built.datum.loss_fn_inputs.items()}
    np.testing.assert_array_equal(inputs["target_tokens"], example.tokens[1:kept])
    scale = trained.sum() if reduction == "mean" else 1
    np.testing.assert_allclose(inputs["weights"], trained / scale, rtol=1e-6)


def test_a_span_from_the_first_token_on_leaves_that_token_untrained() -> None:
    assert RenderedExample.from_spans([5, 6], [Span(message=0, start=0, end=2)]).weights.tolist() == [0, 1]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 30), data=st.data())
def test_a_split_is_disjoint_complete_and_repeatable(n, data) -> None:
    holdout, seed = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, 9))
    whole = rows(*({"i": i} for i in range(n)))
    train, held = split_rows(whole, holdout, seed=seed)
    assert len(held) == holdout
    assert sorted(row["i"] for row in [*train, *held]) == list(range(n))
    assert all(
        split.origin(k) == f"rows.jsonl:{split[k]['i'] + 1}" for split in (train, held) for k in range(len(split))
    )
    assert list(split_rows(whole, holdout, seed=seed)[1]) == list(held)


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="leaves none to train on"):
        split_rows(rows(asked()), 1, seed=0)
    with pytest.raises(ConfigError, match="holdout"):
        split_rows(rows(asked()), -1, seed=0)


def test_train_on_is_taken_as_a_value_or_by_name(renderers) -> None:
    for train_on in (TrainOn.ALL_TOKENS, "all_tokens"):
        assert dataset(renderers, rows(asked()), train_on=train_on).rendering.train_on is TrainOn.ALL_TOKENS
