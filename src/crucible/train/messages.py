"""What is a message of a conversation, and what makes a list of them malformed?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

from crucible.errors import Problem, did_you_mean

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
