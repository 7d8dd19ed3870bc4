"""How is a completion streamed? As server-sent events: nothing is said of tokens before they are all there.

A sampling client gives whole completions. So the events of a completion come together when it is done, and until then
a comment now and then, which keeps connections open and readers ignore. Nothing is timed to look like more.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any

from starlette.responses import StreamingResponse

from crucible.server.openai_errors import error_json

_QUIET_SECONDS = 10.0
_DONE = "data: [DONE]\n\n"


def streamed(
    work: Coroutine[Any, Any, Mapping[str, Any]], *, events: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]
) -> StreamingResponse:
    """The events of what `work` gives; its error is an event, as the status is sent by then."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_told(work, events), media_type="text/event-stream", headers=headers)


def chat_events(whole: Mapping[str, Any], *, include_usage: bool) -> Iterable[Mapping[str, Any]]:
    """A chat completion as the chunks that it would have come in: role, content, how it ended; for each choice."""
    base = {key: whole[key] for key in ("id", "created", "model", "system_fingerprint")}
    base["object"] = "chat.completion.chunk"
    if include_usage:
        base["usage"] = None
    for choice in whole["choices"]:
        index, message = choice["index"], dict(choice["message"])
        for number, call in enumerate(message.get("tool_calls") or ()):
            call["index"] = number
        yield base | {"choices": [_delta(index, {"role": message.pop("role"), "content": ""})]}
        delta = {key: value for key, value in message.items() if value is not None}
        if delta:
            yield base | {"choices": [_delta(index, delta) | {"logprobs": choice["logprobs"]}]}
        yield base | {"choices": [_delta(index, {}) | {"finish_reason": choice["finish_reason"]}]}
    if include_usage:
        yield base | {"choices": [], "usage": whole["usage"]}


def completion_events(whole: Mapping[str, Any], *, include_usage: bool) -> Iterable[Mapping[str, Any]]:
    """A completion as chunks, one for each choice."""
    base = {key: whole[key] for key in ("id", "object", "created", "model", "system_fingerprint")}
    if include_usage:
        base["usage"] = None
    for choice in whole["choices"]:
        yield base | {"choices": [choice]}
    if include_usage:
        yield base | {"choices": [], "usage": whole["usage"]}


def _delta(index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}


async def _told(
    work: Coroutine[Any, Any, Mapping[str, Any]],
    events: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]],
) -> AsyncGenerator[str]:
    task = asyncio.create_task(work)
    try:
        async for comment in _until_done(task):
            yield comment
        try:
            for event in events(await task):
                yield f"data: {json.dumps(event)}\n\n"
        except Exception as error:  # noqa: BLE001  (the status is sent: an event is all that is left to say it with)
            yield f"data: {json.dumps(error_json(error)[0])}\n\n"
        yield _DONE
    finally:
        task.cancel()  # the client is gone: what was submitted runs on, and nobody waits for it
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _until_done(task: "asyncio.Task[Any]") -> AsyncIterator[str]:
    while not (await asyncio.wait([task], timeout=_QUIET_SECONDS))[0]:
        yield ": waiting\n\n"
