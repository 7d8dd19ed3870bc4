"""Malformed conversations are told apart, all problems at once."""

import pytest

from crucible.train.messages import check_messages, shown, strings_in, text_of


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ("hello", ["not a list of messages"]),
        ([], ["no message"]),
        (["hello"], ["not an object"]),
        ([{"content": "a"}], ["no role"]),
        ([{"role": "asistant", "content": "a"}], ["role is unknown"]),
        ([{"role": "user"}, {"role": "user", "content": 3}], ["no content", "neither text nor"]),
        ([{"role": "user", "content": [{"type": "image"}]}], ["a part that is not text"]),
        ([{"role": "user", "content": "a", "trainable": 1}], ["not true or false"]),
        ([{"role": "user", "content": "\ud800"}], ["surrogate"]),
        ([{"role": "user", "content": ["a"]}], ["a part that is not text"]),
        ([{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}], []),
        ([{"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": "{}"}]}], []),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], ["a tool call has no name"]),
        ([{"role": "assistant", "content": "a", "tool_calls": [{"name": "f", "arguments": 3}]}], ["neither an object"]),
        ([{"role": "assistant", "content": "a", "tool_calls": "f()"}], ["tool_calls is not a list"]),
        ([{"role": "user", "content": "a", "tool_calls": [{"name": "f"}]}], ["only the assistant calls"]),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}]}], []),
    ],
)
def test_each_problem_is_named(messages, expected) -> None:
    problems = check_messages(messages)
    assert len(problems) == len(expected)
    assert all(part in problem.what for part, problem in zip(expected, problems, strict=True))


def test_a_misspelt_role_is_told_what_was_meant() -> None:
    (problem,) = check_messages([{"role": "asistant", "content": "a"}])
    assert problem.fix == "did you mean assistant?"


def test_a_missing_assistant_is_a_problem_where_one_is_needed() -> None:
    messages = [{"role": "user", "content": "a"}]
    assert not check_messages(messages)
    assert "no message by the assistant" in check_messages(messages, needs_assistant=True)[0].what


def test_text_parts_are_joined_and_absent_content_is_empty() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert text_of({"role": "user", "content": parts}) == "ab"
    assert text_of({"role": "assistant", "content": None}) == ""


def test_every_string_inside_is_found() -> None:
    assert sorted(strings_in({"a": ["x", {"b": "y"}], "c": ("z", 1, None)})) == ["x", "y", "z"]


def test_long_values_are_cut_where_they_are_shown() -> None:
    assert len(shown("x" * 500)) < 80
