"""Rows of every known form become messages; anything else is a RowError."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import DataError
from crucible.train.data import FORMATS, RowError, detect_format, row_to_messages, row_tools
from crucible.train.messages import calls_of, check_messages

ASKED = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ROWS = {
    "messages": {"messages": ASKED, "id": 7},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "question_answer": {"question": "q", "answer": "a"},
    "alpaca": {"instruction": "q", "input": "", "output": "a"},
    "prompt_completion": {"prompt": "q", "completion": "a"},
    "prompt_response": {"prompt": "q", "response": "a"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_form_is_recognised_and_read(name) -> None:
    assert detect_format(ROWS[name]) == name
    assert row_to_messages(ROWS[name], name) == ASKED


@pytest.mark.parametrize(
    ("name", "row", "first"),
    [
        ("alpaca", {"instruction": "sum", "input": "1 2", "output": "3"}, "sum\n\n1 2"),
        ("question_answer", {"system": "s", "question": "q", "answer": "a"}, "s"),
        ("prompt_completion", {"prompt": ASKED[:1], "completion": ASKED[1:]}, "q"),
        ("sharegpt", {"conversations": ASKED}, "q"),
        ("messages", {"messages": [{**ASKED[0], "name": None}, {**ASKED[1], "tool_calls": None}]}, "q"),
    ],
)
def test_variants_of_the_forms(name, row, first) -> None:
    messages = row_to_messages(row, name)
    assert messages[0]["content"] == first
    assert all(value is not None for message in messages for value in message.values())


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("question_answer", {"question": "q"}, "no answer"),
        ("question_answer", {"question": "q", "answer": " "}, "answer is empty"),
        ("question_answer", {"question": 1, "answer": "a"}, "question is not text"),
        ("alpaca", {"instruction": "q", "output": "a", "input": 3}, "input is not text"),
        ("messages", {"messages": "q"}, "not a list of messages"),
        ("messages", {"messages": []}, "no message"),
        ("sharegpt", {"conversations": {}}, "not a list of messages"),
        ("sharegpt", {"conversations": [{"from": "humn", "value": "q"}]}, "(?i)did you mean human"),
        ("messages", ["not", "an", "object"], "not an object"),
    ],
)
def test_a_row_that_is_no_conversation_says_why(name, row, reason) -> None:
    with pytest.raises(RowError, match=reason):
        row_to_messages(row, name)


@pytest.mark.parametrize("tools", [None, "", " ", [], "[]"])
def test_a_row_without_tools_offers_none(tools) -> None:
    assert row_tools({"messages": ASKED, "tools": tools}) == row_tools({"messages": ASKED}) == []


def test_a_rows_tools_are_a_list_or_its_json_text() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert row_tools({"tools": tools}) == row_tools({"tools": json.dumps(tools)}) == tools


@pytest.mark.parametrize(
    ("tools", "reason"),
    [("{", "not JSON"), ("{}", "not a list"), ([{}], "no name"), ([{"function": {"name": ""}}], "no name")],
)
def test_tools_that_are_no_declarations_say_why(tools, reason) -> None:
    with pytest.raises(RowError, match=reason):
        row_tools({"tools": tools})


def test_a_call_of_sharegpt_is_json_of_name_and_arguments() -> None:
    call = {"name": "f", "arguments": {"a": 1}}
    turns = [{"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(call)}]
    (_, called) = row_to_messages({"conversations": turns}, "sharegpt")
    assert [(made.name, made.object) for made in calls_of(called)] == [("f", {"a": 1})]
    with pytest.raises(RowError, match="a call is not JSON"):
        row_to_messages({"conversations": [*turns[:1], {"from": "function_call", "value": "f()"}]}, "sharegpt")


def test_unknown_columns_are_listed_with_the_forms_accepted() -> None:
    with pytest.raises(DataError, match=r"columns id, text.*question_answer \(question, answer\)"):
        detect_format(["id", "text"])


def test_an_unknown_format_says_what_was_meant() -> None:
    with pytest.raises(DataError, match=r"(?i)did you mean messages"):
        row_to_messages({}, "mesages")


columns = sorted({column for required in FORMATS.values() for column in required} | {"system", "input", "tools"})
words = st.sampled_from(["role", "content", "from", "value", "user", "assistant", "human", "text", "type"])
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=80, deadline=None)
@given(row=json_values | st.dictionaries(st.sampled_from(columns), json_values, max_size=5))
def test_any_json_row_gives_well_formed_messages_or_a_row_error(name, row) -> None:
    try:
        messages = row_to_messages(row, name)
    except RowError as error:
        json.dumps(str(error))
    else:
        assert not check_messages(messages)


def test_llamafactorys_parts_are_text_reasoning_and_calls() -> None:
    parts = [
        {"type": "reasoning", "value": "hm"},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
    ]
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": "q"}]},
            {"role": "assistant", "content": parts},
        ]
    }
    asked, called = row_to_messages(row, "messages")
    assert asked == {"role": "user", "content": "q"}
    assert (called["content"], called["thinking"]) == ("", "hm")
    assert called["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]


def test_a_loss_weight_is_the_flag_of_customized_training() -> None:
    row = {"messages": [{**ASKED[0], "loss_weight": 0.0}, {**ASKED[1], "loss_weight": 1.0}]}
    assert [message["trainable"] for message in row_to_messages(row, "messages")] == [False, True]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "q", "loss_weight": 0.5},
        {"role": "assistant", "content": [{"type": "tool_call", "value": "{oops"}]},
        {"role": "user", "content": [{"type": "image", "value": "x"}]},
    ],
)
def test_what_these_parts_cannot_say_is_refused(message) -> None:
    with pytest.raises(RowError):
        row_to_messages({"messages": [message]}, "messages")
