"""What is in a response that marks its parts by tags: reasoning in `<think>`, calls in `<tool_call>`?"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from crucible.train.messages import Message, ToolCall, call_message
from crucible.train.strict_json import read_json, read_json_at

ReadCall: TypeAlias = Callable[[str, int], tuple[ToolCall, int] | None]
"""Reads the call in a text from a place on, just after its `<tool_call>`: the call, and the place where it ends."""

_THINK, _THOUGHT = "<think>", "</think>"
_CALL, _CALLED = "<tool_call>", "</tool_call>"


def split_thinking(thinking: str, content: str) -> tuple[str, str]:
    """(reasoning, content) of an answer; reasoning that stands in the content in `<think>` tags is taken out of it."""
    if thinking or _THOUGHT not in content:
        return thinking, content
    first, *_, last = content.split(_THOUGHT)
    return first.rstrip("\n").split(_THINK)[-1].lstrip("\n"), last.lstrip("\n")


def message_in(
    text: str, *, thinks: bool, cut: bool, read: ReadCall, opened: bool = False, gap: str = "\n"
) -> tuple[Message, bool]:
    """The message in a response's text, and whether its tags are well formed.

    thinks: whether it may begin with reasoning; opened: whether the prompt has opened that already.
    cut: the response ran out of tokens, so a part may be open. gap: what stands between content and calls.
    """
    thinking, whole = "", True
    if thinks:
        thinking, text, whole = _reasoning(text, opened=opened, cut=cut)
    message = Message(role="assistant", content=text)
    if whole and _CALL in text:
        content, calls = _calls(text, read, gap)
        if calls is None:
            whole = cut
        else:
            message = Message(role="assistant", content=content, tool_calls=call_message(calls))
    if thinking:
        message["thinking"] = thinking
    return message, whole


def json_call(text: str, at: int) -> tuple[ToolCall, int] | None:
    """The call that is written as `{"name": ..., "arguments": {...}}`."""
    try:
        value, end = read_json_at(text, at)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("Mapping[str, Any]", value)
    name, arguments = fields.get("name"), fields.get("arguments", {})
    if not isinstance(name, str) or not name or not isinstance(arguments, Mapping):
        return None
    return ToolCall(name=name, arguments=cast("Mapping[str, Any]", arguments)), end


_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>\n?(.*?)</function>(?=\s*</tool_call>)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*(?=<parameter=|\Z)", re.DOTALL)
_CONSTANTS: Mapping[str, object] = {"True": True, "False": False, "None": None}


def function_call(text: str, at: int) -> tuple[ToolCall, int] | None:
    """The call that is written as `<function=name>` with a `<parameter=name>` for each argument.

    An argument that reads as JSON of anything but a text, or as Python's True, False or None, is that: a text that
    looks like a number comes back as one, since the two are written alike.
    """
    found = _FUNCTION.match(text, at)
    if found is None:
        return None
    name, body = found.groups()
    arguments: dict[str, Any] = {}
    place = 0
    while parameter := _PARAMETER.match(body, place):
        arguments[parameter.group(1)] = _argument(parameter.group(2))
        place = parameter.end()
    if body[place:].strip():
        return None
    return ToolCall(name=name, arguments=arguments), found.end()


def _argument(text: str) -> object:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        value = read_json(text)
    except ValueError:
        return text
    return text if isinstance(value, str) else value


def _reasoning(text: str, *, opened: bool, cut: bool) -> tuple[str, str, bool]:
    """(reasoning, what follows it, whether the block is well formed)."""
    begun = text.lstrip().removeprefix(_THINK)
    if len(begun) == len(text.lstrip()):
        if not opened and _THOUGHT not in text:
            return "", text, True
        begun = text
    inside, closed, after = begun.partition(_THOUGHT)
    return inside.strip("\n"), after.lstrip("\n"), bool(closed) or cut


def _calls(text: str, read: ReadCall, gap: str) -> tuple[str, list[ToolCall] | None]:
    """(content before the calls, the calls); None for calls that cannot be read, or with text after them."""
    content, _, rest = text.partition(_CALL)
    rest, calls = _CALL + rest.rstrip(), list[ToolCall]()
    while rest:
        found = read(rest, len(_CALL)) if rest.startswith(_CALL) else None
        if found is None:
            return text, None
        call, end = found
        tail = rest[end:].lstrip()
        if not tail.startswith(_CALLED):
            return text, None
        calls.append(call)
        rest = tail.removeprefix(_CALLED).lstrip()
    return content.removesuffix(gap), calls
