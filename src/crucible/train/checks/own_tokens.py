"""What does the model's own chat template make of a conversation, for comparison?"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crucible.errors import RendererError
from crucible.train.messages import Message, Tool, ToolCall, calls_of, strings_in, text_of
from crucible.train.renderers import Renderer
from crucible.train.renderers.family import FamilyRenderer


def own_tokens(renderer: Renderer, messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[tuple[int, ...], ...]:
    """Its tokens, the template being told of the variant that the renderer writes (thinking off, little effort).

    Several where the messages hold tool calls: some templates want arguments as objects, some as text. None where the
    model has no template, the template refuses the conversation, or a renderer cannot be held to it: content with a
    special token's text is text to a renderer and that token to a template.
    """
    tokenizer = renderer.tokenizer
    if tokenizer.chat_template is None or not messages or _holds_special_text(renderer, messages):
        return ()
    variables: dict[str, Any] = dict(renderer.template_variables) if isinstance(renderer, FamilyRenderer) else {}
    found: dict[tuple[int, ...], None] = {}
    for views in _views(messages):
        try:
            text = tokenizer.apply_chat_template(views, tools=list(tools) or None, **variables)
        except RendererError:
            continue
        found[tokenizer.encode(text).ids] = None
    return tuple(found)


def _holds_special_text(renderer: Renderer, messages: Sequence[Message]) -> bool:
    return any(special in text for text in strings_in(list(messages)) for special in renderer.tokenizer.special_tokens)


def _views(messages: Sequence[Message]) -> Iterator[list[dict[str, Any]]]:
    """The messages as templates expect them: as they are, with arguments as objects, with arguments as text."""
    yield [_view(message) for message in messages]
    if any(map(calls_of, messages)):
        yield [_view(message, arguments=lambda call: call.object, empty="") for message in messages]
        yield [_view(message, arguments=lambda call: call.text) for message in messages]


def _view(
    message: Message, *, arguments: Callable[[ToolCall], object] | None = None, empty: str | None = None
) -> dict[str, Any]:
    """The message with its content as plain text and none of our own keys. empty: what stands for no content."""
    view: dict[str, Any] = {key: value for key, value in message.items() if key != "trainable"}
    view["content"] = empty if message["content"] is None else text_of(message)
    calls = calls_of(message)
    if arguments is not None and calls:
        given = message.get("tool_calls") or []
        view["tool_calls"] = [
            {**call, "function": {**call.get("function", call), "arguments": arguments(each)}}
            for call, each in zip(given, calls, strict=True)
        ]
    return view
