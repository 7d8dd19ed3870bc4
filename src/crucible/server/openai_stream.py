"""How is a completion streamed? As server-sent events: of its text what is certain, when it is drawn; then the rest.

Where the backend tells of nothing before it is done, and where what is asked for belongs to whole completions
(logprobs, echo), all events come at the end; until then a comment now and then keeps the connection open.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from starlette.responses import StreamingResponse

from crucible.server.openai_errors import error_json
from crucible.server.openai_growing import Growing, Texts

_QUIET_SECONDS = 10.0
_DONE = "data: [DONE]\n\n"
_TEXTS = ("content", "reasoning_content")

Event = Mapping[str, Any]


class Events(Protocol):
    """The form of a kind of completion's events."""

    def piece(self, index: int, texts: Texts, *, first: bool) -> Iterable[Event]:
        """More of an answer's texts."""
        ...

    def end(self, whole: Event, growing: Growing) -> Iterable[Event]:
        """What of the whole completion was not told yet."""
        ...


def streamed(work: Coroutine[Any, Any, Event], *, growing: Growing, events: Events) -> StreamingResponse:
    """The events of what `work` gives; its error is an event, as the status is sent by then."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(work, growing, events), media_type="text/event-stream", headers=headers)


class ChatEvents:
    """A chat completion's: role, content, how it ended; for each choice.

    head: what all events have. include_usage: whether the last one counts the tokens.
    """

    def __init__(self, head: Event, *, include_usage: bool) -> None:
        self._head = {**head, "object": "chat.completion.chunk", **({"usage": None} if include_usage else {})}
        self._include_usage = include_usage

    def piece(self, index: int, texts: Texts, *, first: bool) -> Iterable[Event]:
        """See `Events`."""
        if first:
            yield self._head | {"choices": [_delta(index, {"role": "assistant", "content": ""})]}
        if texts:
            yield self._head | {"choices": [_delta(index, texts)]}

    def end(self, whole: Event, growing: Growing) -> Iterable[Event]:
        """See `Events`."""
        head = self._head | {"system_fingerprint": whole["system_fingerprint"]}
        for choice in whole["choices"]:
            index, message = choice["index"], dict(choice["message"])
            for number, call in enumerate(message.get("tool_calls") or ()):
                call["index"] = number
            role = message.pop("role")
            if not growing.begun(index):
                yield head | {"choices": [_delta(index, {"role": role, "content": ""})]}
            texts = {name: growing.rest(index, name, message.pop(name, None) or "") for name in _TEXTS}
            delta = {name: text for name, text in texts.items() if text} | message
            if delta or choice["logprobs"]:
                yield head | {"choices": [_delta(index, delta) | {"logprobs": choice["logprobs"]}]}
            yield head | {"choices": [_delta(index, {}) | {"finish_reason": choice["finish_reason"]}]}
        if self._include_usage:
            yield head | {"choices": [], "usage": whole["usage"]}


class TextEvents:
    """A completion's: its text, for each choice. head, include_usage: as for a chat."""

    def __init__(self, head: Event, *, include_usage: bool) -> None:
        self._head = {**head, **({"usage": None} if include_usage else {})}
        self._include_usage = include_usage

    def piece(self, index: int, texts: Texts, *, first: bool) -> Iterable[Event]:
        """See `Events`."""
        del first
        if texts:
            choice = {"index": index, "text": texts["text"], "finish_reason": None, "logprobs": None}
            yield self._head | {"choices": [choice]}

    def end(self, whole: Event, growing: Growing) -> Iterable[Event]:
        """See `Events`."""
        head = self._head | {"system_fingerprint": whole["system_fingerprint"]}
        for choice in whole["choices"]:
            text = growing.rest(choice["index"], "text", choice["text"])
            yield head | {"choices": [{**choice, "text": text}]}
        if self._include_usage:
            yield head | {"choices": [], "usage": whole["usage"]}


def _delta(index: int, delta: Event) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}


def _line(event: Event) -> str:
    return f"data: {json.dumps(event)}\n\n"


async def _told(work: Coroutine[Any, Any, Event], growing: Growing, events: Events) -> AsyncGenerator[str]:
    task, begun = asyncio.create_task(work), set[int]()
    try:
        async for news in growing.until(task, seconds=_QUIET_SECONDS):
            if not news:
                yield ": waiting\n\n"
            for index, texts in news.items():
                for event in events.piece(index, texts, first=index not in begun):
                    yield _line(event)
                begun.add(index)
        try:
            for event in events.end(await task, growing):
                yield _line(event)
        except Exception as error:  # noqa: BLE001  (the status is sent: an event is all that is left to say it with)
            yield _line(error_json(error)[0])
        yield _DONE
    finally:
        growing.leave()  # the client is gone, or has everything
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
