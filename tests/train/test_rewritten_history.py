"""A row whose history its renderer rewrites becomes several datums, and counts as one row; rows may offer tools."""

import pytest

from crucible.ports.dataset_store import RowSet
from crucible.train.data import SupervisedDataset, survey
from crucible.train.renderers import get_renderer

TALK = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "good bye"},
]
TOOLS_FIRST = (
    "{% for t in tools or [] %}{{ '<|im_start|>tool ' + t.function.name + '<|im_end|>' }}{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def dataset(renderer, *rows, **options) -> SupervisedDataset:
    defaults = {"train_on": "all_assistant_messages", "max_length": None, "batch_size": len(rows), "seed": 0}
    return SupervisedDataset(RowSet(list(rows), name="rows"), renderer=renderer, **(defaults | options))


def weights(batch) -> list[float]:
    return [float(datum.loss_fn_inputs["weights"].data.sum()) for datum in batch.datums]


def test_each_turn_is_a_datum_and_their_weights_sum_to_one_per_row(renderers) -> None:
    data = dataset(renderers["thinking"], {"messages": TALK}, {"messages": TALK[:2]})
    batch = data.render(data.epoch(0)[0])
    assert sorted(batch.rows) == [0, 0, 1]
    by_row = {row: sum(w for r, w in zip(batch.rows, weights(batch), strict=True) if r == row) for row in (0, 1)}
    assert by_row == pytest.approx({0: 1.0, 1: 1.0})


def test_each_token_of_such_a_row_counts_the_same(renderers) -> None:
    data = dataset(renderers["thinking"], {"messages": TALK})
    batch = data.render(data.epoch(0)[0])
    shares = {float(weight) for datum in batch.datums for weight in datum.loss_fn_inputs["weights"].data if weight}
    assert list(shares) == pytest.approx([1 / batch.trained_tokens])


def test_a_sum_keeps_the_weights_of_each_at_one(renderers) -> None:
    data = dataset(renderers["thinking"], {"messages": TALK}, reduction="sum")
    batch = data.render(data.epoch(0)[0])
    assert sum(weights(batch)) == batch.trained_tokens


def test_where_the_cut_leaves_one_turn_that_one_has_the_rows_whole_weight(renderers) -> None:
    first = dataset(renderers["thinking"], {"messages": TALK[:2]})
    length = survey(first).tokens
    data = dataset(renderers["thinking"], {"messages": TALK}, max_length=length)
    batch = data.render(data.epoch(0)[0])
    assert weights(batch) == pytest.approx([1.0])
    assert batch.cut_trained_tokens > 0


def test_a_survey_counts_the_row_once_and_its_datums_each(renderers) -> None:
    data = dataset(renderers["thinking"], {"messages": TALK}, {"messages": TALK[:2]})
    seen, batch = survey(data), data.render(data.epoch(0)[0])
    assert (seen.rendered, seen.usable, seen.datums) == (2, 2, len(batch.datums)) == (2, 2, 3)
    assert seen.tokens_kept - seen.datums == batch.tokens
    assert seen.tokens_trained == batch.trained_tokens


def test_a_rows_tools_are_declared_in_its_tokens(make_tokenizer) -> None:
    renderer = get_renderer("template", make_tokenizer(TOOLS_FIRST))
    tools = [{"type": "function", "function": {"name": "look"}}]
    data = dataset(renderer, {"messages": TALK[:2], "tools": tools}, {"messages": TALK[:2], "tools": None})
    batch = data.render(data.epoch(0)[0])
    decoded = [renderer.tokenizer.decode(datum.model_input.to_ints()) for datum in batch.datums]
    texts = dict(zip(batch.rows, decoded, strict=True))
    assert texts[0] == f"<|im_start|>tool look<|im_end|>{texts[1]}"


def test_a_row_whose_tools_are_no_declarations_is_dropped_with_the_reason(renderers) -> None:
    data = dataset(renderers["chatml"], {"messages": TALK, "tools": "{"}, {"messages": TALK})
    batch = data.render(data.epoch(0)[0])
    assert batch.rows == (1,)
    assert [dropped.count for dropped in batch.dropped.values()] == [1]
    assert "not JSON" in next(iter(batch.dropped))
