"""How is a model asked that speaks OpenAI's HTTP protocol? `OpenAIClient`: hosted, or a server of one's own."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent import futures
from contextlib import closing, suppress
from typing import Any, ClassVar, TypeVar, cast

import msgspec

from crucible.adapters.llm.endpoint import Endpoint
from crucible.adapters.llm.wire import Completion, chat_request, stop_of, usage_of
from crucible.errors import ManifestError
from crucible.ports.future import Future
from crucible.ports.json_schema import JsonSchema
from crucible.ports.llm_client import (
    DEFAULTS,
    ChatChunk,
    ChatParams,
    ChatResponse,
    LLMCapabilities,
    LLMClient,
    read_structured,
    require_conversation,
)

T = TypeVar("T")

BASE_URL = "https://api.openai.com/v1"
_PATH = "/chat/completions"


class OpenAIClient(LLMClient):
    """`POST BASE_URL/chat/completions`, as OpenAI, vLLM, llama.cpp, Ollama and many others serve it.

    model: its name on the server.
    base_url: the address up to `/v1`; else OPENAI_BASE_URL, else OpenAI's own.
    api_key: else OPENAI_API_KEY, else none is sent. It is in no repr and in no message.
    timeout: seconds of silence after which a call fails.
    max_concurrency: calls in flight at once; the others wait.

    It tries nothing again by itself: an error says whether that may help. A call that nobody waits for any more
    ends by itself and never holds up the process's end.

    Raises:
        ManifestError: if an option is wrong.
    """

    adapter_name: ClassVar[str] = "openai"

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 120.0,
        max_concurrency: int = 16,
    ) -> None:
        if not model:
            raise ManifestError.of("is empty", where="openai.model", fix="Give the model's name on the server")
        if not isinstance(max_concurrency, int) or isinstance(max_concurrency, bool) or max_concurrency < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  (it comes from a command line)
            raise ManifestError.of(
                "is not a whole number of at least 1", where="openai.max_concurrency", given=max_concurrency
            )
        self._model = model
        self._endpoint = Endpoint(
            base_url=base_url or os.environ.get("OPENAI_BASE_URL") or BASE_URL,
            api_key=api_key or os.environ.get("OPENAI_API_KEY") or None,
            timeout=timeout,
            port=self.port_name,
            adapter=self.adapter_name,
        )
        self._slots = threading.BoundedSemaphore(max_concurrency)
        self._closed = threading.Event()

    def __repr__(self) -> str:
        key = "set" if self._endpoint.api_key else None
        return f"OpenAIClient(model={self._model!r}, base_url={self._endpoint.base_url!r}, api_key={key})"

    def capabilities(self) -> LLMCapabilities:
        return LLMCapabilities()

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        params: ChatParams = DEFAULTS,
        schema: JsonSchema | None = None,
    ) -> Future[ChatResponse]:
        source: futures.Future[ChatResponse] = futures.Future()
        try:
            require_conversation(messages, schema)
        except ValueError as error:
            source.set_exception(error)
            return Future(source)
        body = chat_request(self._model, messages, params, schema)

        def work() -> None:
            try:
                source.set_result(self._in_turn(lambda: self._chat(body, schema)))
            except Exception as error:  # noqa: BLE001  (a future carries whatever was raised to its reader)
                source.set_exception(error)

        self._start(work)
        return Future(source)

    async def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], *, params: ChatParams = DEFAULTS
    ) -> AsyncGenerator[ChatChunk]:
        require_conversation(messages)
        body = chat_request(self._model, messages, params, None, stream=True)
        loop, arrived = asyncio.get_running_loop(), asyncio.Queue[ChatChunk | Exception]()
        left = threading.Event()

        def deliver(item: ChatChunk | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(arrived.put_nowait, item)

        def read() -> None:
            with closing(self._stream(body)) as chunks:
                for chunk in chunks:
                    if left.is_set():
                        return
                    deliver(chunk)

        def work() -> None:
            try:
                self._in_turn(read)
            except Exception as error:  # noqa: BLE001  (handed to the reader and raised there)
                deliver(error)

        self._start(work)
        try:
            while True:
                item = await arrived.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.response is not None:
                    return
        finally:
            left.set()

    def close(self) -> None:
        """Calls that wait for their turn fail; those in flight end by themselves."""
        self._closed.set()

    def _start(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="crucible-llm", daemon=True).start()

    def _in_turn(self, call: Callable[[], T]) -> T:
        with self._slots:
            if self._closed.is_set():
                raise self._endpoint.failure("the client is closed", retryable=False)
            return call()

    def _chat(self, body: Mapping[str, Any], schema: JsonSchema | None) -> ChatResponse:
        data = self._endpoint.post(_PATH, body)
        completion = self._read(data)
        if not completion.choices:
            raise self._endpoint.failure("the server's answer has no choices", retryable=False)
        choice = completion.choices[0]
        message = choice.message
        return self._whole(
            message.content or message.refusal or "",
            refused=message.refusal is not None,
            finish=choice.finish_reason,
            completion=completion,
            schema=schema,
            raw=json.loads(data),
        )

    def _stream(self, body: Mapping[str, Any]) -> Generator[ChatChunk]:
        content, refused, finish = "", False, None
        raw: list[object] = []
        last = Completion()
        with closing(self._endpoint.events(_PATH, body)) as events:
            for data in events:
                part = self._read(data.encode())
                raw.append(json.loads(data))
                last = Completion(model=part.model or last.model, usage=part.usage or last.usage)
                for choice in part.choices:
                    text = choice.delta.content or choice.delta.refusal or ""
                    refused = refused or choice.delta.refusal is not None
                    finish = choice.finish_reason or finish
                    content += text
                    if text:
                        yield ChatChunk(text=text)
        if finish is None:
            raise self._endpoint.failure("the answer broke off", retryable=True)
        yield ChatChunk(
            text="",
            response=self._whole(content, refused=refused, finish=finish, completion=last, schema=None, raw=raw),
        )

    def _whole(
        self,
        content: str,
        *,
        refused: bool,
        finish: str | None,
        completion: Completion,
        schema: JsonSchema | None,
        raw: object,
    ) -> ChatResponse:
        stopped = "refused" if refused else stop_of(finish)
        structured = None
        if schema is not None and stopped == "stop":
            try:
                structured = read_structured(content, schema)
            except ValueError as error:
                raise self._endpoint.failure(str(error), retryable=True, details={"content": content}) from error
        return ChatResponse(
            content=content,
            stopped=stopped,
            model=completion.model or self._model,
            structured=structured,
            usage=usage_of(completion),
            cost=completion.usage.cost if completion.usage else None,
            raw=raw,
        )

    def _read(self, data: bytes) -> Completion:
        try:
            completion = msgspec.json.decode(data, type=Completion)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._endpoint.failure(
                f"the server's answer is no chat completion: {error}", retryable=False
            ) from error
        if completion.error:
            raise self._endpoint.failure(f"the server failed: {_shown(completion.error)}", retryable=True)
        return completion


def _shown(error: object) -> str:
    return str(cast(Mapping[str, object], error).get("message", "")) if isinstance(error, Mapping) else repr(error)
