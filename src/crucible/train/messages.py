"""What is a message of a conversation, and what makes a list of them malformed?"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, cast

from crucible.errors import Problem, did_you_mean
from crucible.train.strict_json import read_json

ROLES = ("system", "developer", "user", "assistant", "tool")

THINKING_KEYS = ("thinking", "reasoning_content", "reasoning")
"""Where a message keeps its reasoning apart from its content; each chat template reads one of them."""


class TextPart(TypedDict):
    """A piece of a message's content; the text parts of a message are joined without a separator."""

    type: Literal["text"]
    text: str


class Message(TypedDict):
    """One message, under the names that chat templates read.

    content: may be None only where `tool_calls` says what the assistant did instead.
    trainable: with `train_on=customized`, whether the message is trained; otherwise absent.
    """

    role: str
    content: str | list[TextPart] | None
    name: NotRequired[str]
    trainable: NotRequired[bool]
    thinking: NotRequired[str]
    reasoning_content: NotRequired[str]
    reasoning: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]


Tool: TypeAlias = Mapping[str, Any]
"""A tool that the assistant may call, as OpenAI's API declares it: `{"type": "function", "function": {name,
description, parameters: JSON schema}}`. The inner object alone is taken too."""


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """What the assistant calls. arguments: an object, or JSON text, as it was given."""

    name: str
    arguments: Mapping[str, Any] | str
    id: str = ""

    @property
    def text(self) -> str:
        """The arguments as JSON text."""
        return self.arguments if isinstance(self.arguments, str) else as_json(self.arguments)

    @property
    def object(self) -> Mapping[str, Any] | None:
        """The arguments as an object; None for text that is not JSON of one."""
        if not isinstance(self.arguments, str):
            return self.arguments
        try:
            value: Any = read_json(self.arguments)
        except ValueError:
            return None
        return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def calls_of(message: Message) -> list[ToolCall]:
    """The message's tool calls, whichever of the usual forms they have."""
    return [_call(call) for call in message.get("tool_calls") or ()]


def call_message(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Tool calls in the form in which a message keeps them: OpenAI's, arguments as an object."""
    return [
        {
            "type": "function",
            **({"id": call.id} if call.id else {}),
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]


def function_of(tool: Tool) -> Mapping[str, Any]:
    """A tool's name, description and parameters."""
    function = tool.get("function", tool)
    return cast("Mapping[str, Any]", function)


def thinking_of(message: Message) -> str:
    """The message's reasoning, under whichever key it is kept; empty where there is none."""
    return next((text for key in THINKING_KEYS if isinstance(text := message.get(key), str)), "")


def as_json(value: object) -> str:
    """JSON as chat templates write it: Unicode as it is, `, ` and `: ` between items."""
    return json.dumps(value, ensure_ascii=False)


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = function_of(call)
    return ToolCall(
        name=str(function.get("name", "")), arguments=function.get("arguments", {}), id=str(call.get("id", ""))
    )


def text_of(message: Message) -> str:
    """The message's content as one text; empty where it is None."""
    content = message["content"]
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content)


def strings_in(value: object) -> Iterator[str]:
    """Every string inside a JSON-like value, keys of mappings left out, in no particular order."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            pending.extend(cast("Mapping[Any, object]", item).values())
        elif isinstance(item, list | tuple):
            pending.extend(cast("Sequence[object]", item))


def shown(value: object, *, limit: int = 60) -> str:
    """A value as an error message shows it: its repr, cut to about `limit` characters."""
    text = repr(value[:limit]) if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def check_messages(messages: object, *, needs_assistant: bool = False) -> list[Problem]:
    """Everything that is wrong with a conversation; an empty list when it is well formed.

    needs_assistant: whether a conversation without an assistant's message is a problem too.
    """
    if not isinstance(messages, list | tuple):
        return [Problem(what="the conversation is not a list of messages", given=shown(messages))]
    items = cast("Sequence[object]", messages)
    if not items:
        return [Problem(what="the conversation has no message")]
    problems = [
        problem for index, message in enumerate(items) for problem in _check_message(message, f"messages[{index}]")
    ]
    if needs_assistant and not problems and all(m["role"] != "assistant" for m in cast("Sequence[Message]", items)):
        problems.append(Problem(what="the conversation has no message by the assistant"))
    return problems


def _check_message(message: object, where: str) -> Iterator[Problem]:
    if not isinstance(message, Mapping):
        yield Problem(what="a message is not an object with role and content", where=where, given=shown(message))
        return
    fields = cast("Mapping[str, object]", message)
    role = fields.get("role")
    if not isinstance(role, str):
        yield Problem(what="a message has no role", where=where, given=shown(role) if "role" in fields else "")
    elif role not in ROLES:
        yield Problem(what="a message's role is unknown", where=where, given=shown(role), fix=did_you_mean(role, ROLES))
    yield from _check_content(fields, where)
    yield from _check_calls(fields, where)
    if not isinstance(fields.get("trainable", False), bool):
        yield Problem(what="trainable is not true or false", where=where, given=shown(fields["trainable"]))
    if not all(map(_is_unicode, strings_in(fields))):
        yield Problem(what="a message holds half of a surrogate pair, which is no character", where=where)


def _check_content(fields: Mapping[str, object], where: str) -> Iterator[Problem]:
    content = fields.get("content")
    if isinstance(content, str):
        return
    if content is None:
        if not fields.get("tool_calls"):
            yield Problem(what="a message has no content", where=where)
    elif not isinstance(content, list | tuple):
        what = "a message's content is neither text nor a list of parts"
        yield Problem(what=what, where=where, given=shown(content))
    elif not all(map(_is_text_part, cast("Sequence[object]", content))):
        yield Problem(
            what="a message's content has a part that is not text",
            where=where,
            given=shown(cast("object", content)),
            fix='Parts are {"type": "text", "text": "..."}; images are not supported yet',
        )


def _check_calls(fields: Mapping[str, object], where: str) -> Iterator[Problem]:
    calls = fields.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list | tuple):
        yield Problem(what="a message's tool_calls is not a list", where=where, given=shown(calls))
        return
    if calls and fields.get("role") != "assistant":
        yield Problem(what="only the assistant calls tools", where=where, given=shown(fields.get("role")))
    for number, call in enumerate(cast("Sequence[object]", calls)):
        function = _function(call)
        if not _is_named(function) or not isinstance(function.get("arguments", {}), Mapping | str):
            yield Problem(
                what="a tool call has no name, or arguments that are neither an object nor text",
                where=f"{where}.tool_calls[{number}]",
                given=shown(call),
                fix='Write {"type": "function", "function": {"name": "...", "arguments": {...}}}',
            )


def check_tools(tools: object) -> list[Problem]:
    """Everything that is wrong with a list of tool declarations; an empty list when it is well formed."""
    if not isinstance(tools, list | tuple):
        return [Problem(what="tools is not a list of declarations", where="tools", given=shown(tools))]
    return [
        Problem(
            what="a tool's declaration has no name",
            where=f"tools[{number}]",
            given=shown(tool),
            fix='Write {"type": "function", "function": {"name": "...", "description": "...", "parameters": {...}}}',
        )
        for number, tool in enumerate(cast("Sequence[object]", tools))
        if not _is_named(_function(tool))
    ]


def _function(item: object) -> Mapping[str, object]:
    """A tool's or a call's inner object; empty for what is none."""
    if not isinstance(item, Mapping):
        return {}
    outer = cast("Mapping[str, object]", item)
    inner = outer.get("function", outer)
    return cast("Mapping[str, object]", inner) if isinstance(inner, Mapping) else {}


def _is_named(function: Mapping[str, object]) -> bool:
    return isinstance(name := function.get("name"), str) and bool(name)


def _is_text_part(part: object) -> bool:
    if not isinstance(part, Mapping):
        return False
    fields = cast("Mapping[str, object]", part)
    return fields.get("type") == "text" and isinstance(fields.get("text"), str)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
