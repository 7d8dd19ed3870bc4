"""What goes over the wire in OpenAI's chat protocol? The request that is sent, and what is read of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from crucible.ports.json_schema import JsonSchema
from crucible.ports.llm_client import ChatParams, ChatStop, ChatUsage


class Message(msgspec.Struct, frozen=True):
    """What the model says, or in a stream a piece of it."""

    content: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One answer; `message` whole, `delta` in a stream."""

    message: Message = Message()
    delta: Message = Message()
    finish_reason: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """Tokens, and where a server tells it the price in US dollars."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


class Completion(msgspec.Struct, frozen=True):
    """A completion, or one event of a stream. What it does not name is passed over."""

    choices: list[Choice] = []
    model: str = ""
    usage: Usage | None = None
    error: Any = None


def chat_request(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    params: ChatParams,
    schema: JsonSchema | None,
    *,
    stream: bool = False,
) -> dict[str, Any]:
    """The request's body. A parameter that is None is left out: servers refuse what they do not know."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in messages],
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": params.seed,
        "stop": list(params.stop) or None,
    }
    if schema is not None:
        answer = {"name": "answer", "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": answer}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return {key: value for key, value in body.items() if value is not None}


def stop_of(finish_reason: str | None) -> ChatStop:
    """`length` and `content_filter` are told apart; whatever else a server calls it, the answer is whole."""
    return "length" if finish_reason == "length" else "refused" if finish_reason == "content_filter" else "stop"


def usage_of(completion: Completion) -> ChatUsage | None:
    """The tokens, where the server counted them."""
    if completion.usage is None:
        return None
    return ChatUsage(input_tokens=completion.usage.prompt_tokens, output_tokens=completion.usage.completion_tokens)
