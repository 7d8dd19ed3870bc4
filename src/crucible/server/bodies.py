"""What did the client send? A body that is no larger than allowed, and JSON of the right kind."""

import asyncio
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from crucible.server.limits import Limits
from crucible.server.refusals import Refusal

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds between two parts of a body."""
WHOLE = 600.0
"""Seconds that a whole body may take: one that comes byte by byte is no use to anybody."""
LARGE = 1 << 20
"""JSON of so many bytes is read in a thread of its own."""
_WINDOW = 1 << 27
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body, decompressed.

    Raises:
        Refusal: 413 as soon as it is known to be too large; 400 if it stops coming; 415 for an unknown encoding.
        ClientDisconnect: if the client is gone.
    """
    most = limits.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    body = await _received(request, most)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    if encoding != "zstd":
        raise Refusal(415, "a body may be encoded as zstd, or not at all")
    return await asyncio.to_thread(_decompressed, body, most)


async def read_json(request: Request, kind: type[T], limits: Limits) -> tuple[T, bytes]:
    """The body as JSON of this kind, and its bytes. Keys that the kind does not have are ignored: they grow with
    every release of the SDK.

    Raises:
        Refusal: 400 if it is not of this kind; else as `read_body`.
    """
    body = await read_body(request, limits)
    if len(body) > LARGE:
        return await asyncio.to_thread(decode_json, body, kind), body
    return decode_json(body, kind), body


def decode_json(body: bytes, kind: type[T]) -> T:
    """The bytes as JSON of this kind.

    Raises:
        Refusal: 400 if they are not.
    """
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not what is expected here: {error}") from error


async def _received(request: Request, most: int) -> bytes:
    """What comes, part by part. One timer for all of a body that comes in one part, as most do."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None, "a request is handled in a task"
    parts: list[bytes] = []
    size, late = 0, False

    def stop() -> None:
        nonlocal late
        late = True
        task.cancel()

    end = loop.time() + WHOLE
    timer = loop.call_later(PATIENCE, stop)
    try:
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > most:
                raise _too_large(most)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            timer.cancel()
            timer = loop.call_at(min(end, loop.time() + PATIENCE), stop)
    except asyncio.CancelledError as error:
        if late and task.uncancel() == 0:
            raise Refusal(400, "the body stopped coming") from error
        raise
    finally:
        timer.cancel()


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"the body is larger than {most} bytes")


def _decompressed(body: bytes, most: int) -> bytes:
    import zstandard  # lazy: a server whose clients do not compress needs none

    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(body, read_across_frames=True) as reader:
            plain = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise Refusal(400, "the body is no zstd") from error
    if len(plain) > most:
        raise _too_large(most)
    return plain


__all__ = ["ClientDisconnect", "decode_json", "read_body", "read_json"]
