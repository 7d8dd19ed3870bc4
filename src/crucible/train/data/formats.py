"""In which forms do conversations come, and how does a row of each become messages?"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from crucible.errors import DataError, Problem, did_you_mean
from crucible.train.messages import Message, Tool, check_messages, check_tools, shown

_SPEAKERS: Mapping[str, str] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_call": "assistant",
}
_CALLS = "function_call"
"""The speaker whose value is JSON of what the assistant calls: `{name, arguments}`, or a list of these."""


class RowError(DataError):
    """One row cannot be used. The data set counts it, with the reason, and goes on."""


def detect_format(columns: Iterable[str]) -> str:
    """The row format that columns of these names have: `TOKENS`, or the first of `FORMATS` whose columns are all there.

    Raises:
        DataError: if there is none: the columns found, and the forms accepted.
    """
    found = list(columns)
    if {"tokens", "weights"} <= set(found):
        return TOKENS
    for name, (required, _) in _FORMATS.items():
        if set(required) <= set(found):
            return name
    accepted = "; ".join(f"{name} ({', '.join(required)})" for name, (required, _) in _FORMATS.items())
    accepted += f"; {TOKENS} (tokens, weights)"
    raise DataError.of(
        "the rows have no form that can be read as conversations",
        given=f"columns {', '.join(found) or '(none)'}",
        fix=f"Accepted forms and their columns: {accepted}",
    )


def row_to_messages(row: object, row_format: str) -> list[Message]:
    """The row as a well-formed conversation. Columns that the format does not know are left alone.

    Raises:
        RowError: if the row lacks a column, or what is in it is no conversation; all problems at once.
        DataError: if there is no such format.
    """
    if row_format == TOKENS:
        raise RowError.of("a row of tokens has no messages")
    if row_format not in _FORMATS:
        raise DataError.of("there is no such row format", given=row_format, fix=did_you_mean(row_format, _FORMATS))
    if not isinstance(row, Mapping):
        raise RowError.of("the row is not an object", given=shown(row))
    fields = cast("Mapping[str, Any]", row)
    required, convert = _FORMATS[row_format]
    missing = [column for column in required if fields.get(column) is None]
    if missing:
        raise RowError([Problem(what=f"the row has no {column}") for column in missing])
    messages = convert(fields)
    problems = check_messages(messages)
    if problems:
        raise RowError(problems)
    return messages


def row_tools(row: object) -> list[Tool]:
    """The tools that the row offers: its `tools` column, a list of declarations or JSON text of one; empty where it
    has none.

    Raises:
        RowError: if the column holds something else.
    """
    tools: Any = cast("Mapping[str, Any]", row).get("tools") if isinstance(row, Mapping) else None
    if not tools:
        return []
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else []
        except ValueError as error:
            raise RowError.of(f"the row's tools are not JSON: {error}", where="tools", given=shown(tools)) from error
    problems = check_tools(cast("object", tools))
    if problems:
        raise RowError(problems)
    return list(cast("Sequence[Tool]", tools))


def _messages(row: Mapping[str, Any]) -> list[Message]:
    return _conversation(row["messages"])


def _conversation(value: object) -> list[Message]:
    """A list of message objects, as it is but for keys that hold null (columnar files fill those in)."""
    if not isinstance(value, list | tuple):
        raise RowError.of("the conversation is not a list of messages", given=shown(value))
    return [_message(item, index) for index, item in enumerate(cast("Sequence[object]", value))]


def _message(item: object, index: int) -> Message:
    """A message object as it is, but for LlamaFactory's own: parts of `{type, value}`, and a `loss_weight` of 0 or 1,
    which is the flag of `train_on=customized`."""
    fields = _fields(item)
    weight = fields.pop("loss_weight", None)
    if weight is not None:
        if weight not in (0, 1):
            fix = "Give 0 or 1, or rows of tokens and weights"
            raise RowError.of(
                "a loss_weight is neither 0 nor 1", where=f"messages[{index}]", given=shown(weight), fix=fix
            )
        fields["trainable"] = bool(weight)
    parts: Any = fields.get("content")
    if isinstance(parts, list) and parts and all(_is_valued(part) for part in cast("list[object]", parts)):
        fields |= _valued(cast("list[dict[str, str]]", parts), where=f"messages[{index}]")
    return cast("Message", fields or item)


def _is_valued(part: object) -> bool:
    if not isinstance(part, Mapping):
        return False
    fields = cast("Mapping[str, object]", part)
    return fields.get("type") in ("text", "reasoning", "tool_call") and isinstance(fields.get("value"), str)


def _valued(parts: list[dict[str, str]], *, where: str) -> dict[str, object]:
    """The fields of a message whose content is parts of `{type, value}`."""
    said = {
        kind: [part["value"] for part in parts if part["type"] == kind] for kind in ("text", "reasoning", "tool_call")
    }
    calls = [call for text in said["tool_call"] for call in _calls(text, where=where)]
    return {
        "content": "".join(said["text"]),
        **({"thinking": "".join(said["reasoning"])} if said["reasoning"] else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _fields(item: object) -> dict[str, object]:
    """An object's fields without those that hold null; none for what is no object."""
    if not isinstance(item, Mapping):
        return {}
    fields = cast("Mapping[str, object]", item)
    return {key: value for key, value in fields.items() if value is not None or key == "content"}


def _sharegpt(row: Mapping[str, Any]) -> list[Message]:
    turns = row["conversations"]
    if not isinstance(turns, list | tuple):
        raise RowError.of("the conversation is not a list of messages", given=shown(turns))
    items = cast("Sequence[object]", turns)
    return _system(row) + [_sharegpt_message(item, index) for index, item in enumerate(items)]


def _sharegpt_message(item: object, index: int) -> Message:
    """`{from, value}`; `{role, content}` too, which some data sets keep under the same column."""
    fields = _fields(item)
    if "from" not in fields:
        return cast("Message", fields or item)
    speaker = fields["from"]
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        hint = did_you_mean(speaker, _SPEAKERS) if isinstance(speaker, str) else ""
        raise RowError.of(
            "the speaker is unknown", where=f"conversations[{index}].from", given=shown(speaker), fix=hint
        )
    text = _text(fields, "value")
    if speaker == _CALLS:
        return Message(role="assistant", content=None, tool_calls=_calls(text, where=f"conversations[{index}].value"))
    return Message(role=_SPEAKERS[speaker], content=text)


def _calls(text: str, *, where: str) -> list[dict[str, Any]]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise RowError.of(f"a call is not JSON: {error}", where=where, given=shown(text)) from error
    calls = cast("list[Any]", value) if isinstance(value, list) else [value]
    return [{"type": "function", "function": call} for call in calls]


def _question_answer(row: Mapping[str, Any]) -> list[Message]:
    return [*_system(row), _said("user", row, "question"), _said("assistant", row, "answer")]


def _alpaca(row: Mapping[str, Any]) -> list[Message]:
    """The instruction, a blank line and the input where there is one; the output."""
    instruction = _text(row, "instruction")
    given = _text(row, "input") if row.get("input") is not None else ""
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    return [*_system(row), Message(role="user", content=question), _said("assistant", row, "output")]


def _prompt_completion(row: Mapping[str, Any]) -> list[Message]:
    return _prompted(row, "completion")


def _prompt_response(row: Mapping[str, Any]) -> list[Message]:
    return _prompted(row, "response")


def _prompted(row: Mapping[str, Any], answer: str) -> list[Message]:
    """Prompt and answer are each a text, or each a list of messages."""
    prompt: object = row["prompt"]
    if isinstance(prompt, list | tuple):
        return _conversation(cast("object", prompt)) + _conversation(row[answer])
    return [*_system(row), _said("user", row, "prompt"), _said("assistant", row, answer)]


def _system(row: Mapping[str, Any]) -> list[Message]:
    return [_said("system", row, "system")] if row.get("system") else []


def _said(role: str, row: Mapping[str, Any], column: str) -> Message:
    text = _text(row, column)
    if not text.strip():
        raise RowError.of(f"the row's {column} is empty")
    return Message(role=role, content=text)


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise RowError.of(f"{key} is not text", given=shown(value))
    return value


_FORMATS: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], list[Message]]]] = {
    "messages": (("messages",), _messages),
    "sharegpt": (("conversations",), _sharegpt),
    "question_answer": (("question", "answer"), _question_answer),
    "alpaca": (("instruction", "output"), _alpaca),
    "prompt_completion": (("prompt", "completion"), _prompt_completion),
    "prompt_response": (("prompt", "response"), _prompt_response),
}

TOKENS = "tokens"
"""The form of rows that hold no conversation but tokens: `tokens`, a list of ids, and `weights`, the loss weight of
each."""

FORMATS: Mapping[str, tuple[str, ...]] = {name: required for name, (required, _) in _FORMATS.items()}
"""The row formats, in the order in which `detect_format` tries them, and the columns that each needs."""
