"""What of answers was told already, while they are drawn?"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from crucible.ports.sampling_client import OnToken
from crucible.server.openai_errors import OpenAiError

Texts: TypeAlias = Mapping[str, str]
"""The texts of an answer, by the names of their fields."""

_SECONDS_BETWEEN = 0.05
"""Least time between two events of one answer."""


class Growing:
    """The answers of one request, as far as they were told.

    read: an answer's tokens so far -> its texts, as far as they are certain.
    streams: whether the backend tells of its tokens; if not, there is nothing to tell before the end.
    """

    def __init__(self, read: Callable[[Sequence[int]], Texts], *, streams: bool) -> None:
        self._read, self._streams = read, streams
        self._loop, self._drawn = asyncio.get_running_loop(), asyncio.Event()
        self._left = False
        self._tokens: dict[int, list[int]] = {}
        self._seen: dict[int, int] = {}
        self._told: dict[int, dict[str, str]] = {}

    def on_token(self, first: int = 0) -> OnToken | None:
        """What a backend tells; the number of its answers begins at `first` here."""
        return partial(self._take, first) if self._streams else None

    def begun(self, index: int) -> bool:
        """Whether some of an answer was told."""
        return bool(self._told.get(index))

    def leave(self) -> None:
        """Nobody listens any more: a request that still draws ends with its next token."""
        self._left = True

    async def until(self, task: "asyncio.Task[Any]", *, seconds: float) -> AsyncGenerator[Mapping[int, Texts]]:
        """Until the task is done, what is new of each answer. Empty after so many seconds without."""
        quiet_since = time.monotonic()
        drawn = asyncio.create_task(self._drawn.wait())
        try:
            while not task.done():
                left = max(0.0, seconds - (time.monotonic() - quiet_since))
                await asyncio.wait([task, drawn], timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    return
                news: Mapping[int, Texts] = {}
                if drawn.done():
                    self._drawn.clear()
                    drawn = asyncio.create_task(self._drawn.wait())
                    news = await asyncio.to_thread(self._news)
                if news or time.monotonic() - quiet_since >= seconds:
                    quiet_since = time.monotonic()
                    yield news
                await asyncio.wait([task], timeout=_SECONDS_BETWEEN)
        finally:
            drawn.cancel()
            with suppress(asyncio.CancelledError):
                await drawn

    def rest(self, index: int, name: str, whole: str) -> str:
        """What is left to tell of one of an answer's texts. Reasoning that was never closed is content in the end, and
        is told again as that.

        Raises:
            OpenAiError: if what was told is not how the text begins.
        """
        told = self._told.get(index, {}).get(name, "")
        if name == "reasoning_content" and not whole:
            return ""
        if not whole.startswith(told):
            raise OpenAiError(500, "the answer turned out to be another than what was streamed of it")
        return whole[len(told) :]

    def _take(self, first: int, index: int, token: int) -> None:
        if self._left:
            raise ConnectionAbortedError("the client of this stream is gone")
        self._tokens.setdefault(first + index, []).append(token)
        with suppress(RuntimeError):  # the server's loop has ended: nobody listens
            self._loop.call_soon_threadsafe(self._drawn.set)

    def _news(self) -> Mapping[int, Texts]:
        news: dict[int, Texts] = {}
        for index, tokens in list(self._tokens.items()):
            drawn = tokens[:]
            if len(drawn) == self._seen.get(index):
                continue
            self._seen[index] = len(drawn)
            told = self._told.setdefault(index, {})
            fresh: dict[str, str] = {}
            for name, text in self._read(drawn).items():
                before = told.get(name, "")
                if len(text) > len(before) and text.startswith(before):
                    fresh[name], told[name] = text[len(before) :], text
            if fresh:
                news[index] = fresh
        return news
