"""Who answers in a test? `FakeLLMClient`: it says back what it heard, and fills in a schema."""

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar

from crucible.errors import PortError
from crucible.ports.future import Future
from crucible.ports.json_schema import JsonSchema, referred
from crucible.ports.llm_client import (
    DEFAULTS,
    ChatChunk,
    ChatParams,
    ChatResponse,
    ChatUsage,
    LLMCapabilities,
    LLMClient,
    read_structured,
    require_conversation,
)


class FakeLLMClient(LLMClient):
    """Its answer is a function of messages, parameters and schema. A token is a word.

    An answer to a schema has what is required: the first of a choice, the smallest number, a word for a text.
    """

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self) -> None:
        self._closed = False

    def capabilities(self) -> LLMCapabilities:
        return LLMCapabilities(computes=False, exact=True)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        params: ChatParams = DEFAULTS,
        schema: JsonSchema | None = None,
    ) -> Future[ChatResponse]:
        return Future.of(lambda: self._answer(messages, params, schema))

    async def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], *, params: ChatParams = DEFAULTS
    ) -> AsyncGenerator[ChatChunk]:
        response = self._answer(messages, params, None)
        words = response.content.split(" ")
        for index, word in enumerate(words):
            await asyncio.sleep(0)
            last = index + 1 == len(words)
            yield ChatChunk(text=word if last else f"{word} ", response=response if last else None)

    def close(self) -> None:
        self._closed = True

    def _answer(
        self, messages: Sequence[Mapping[str, Any]], params: ChatParams, schema: JsonSchema | None
    ) -> ChatResponse:
        if self._closed:
            raise PortError("the client is closed", port=self.port_name, adapter="noop")
        require_conversation(messages, schema)
        heard = messages[-1]["content"]
        mark = hashlib.sha256(repr((messages, params.seed)).encode()).hexdigest()[:6]
        said = f"{mark} I heard: {heard if isinstance(heard, str) else json.dumps(heard)}"
        if schema is not None:
            said = json.dumps(_example(schema, schema))
        for stop in params.stop:
            said = said.partition(stop)[0]
        words = said.split(" ")
        cut = params.max_tokens is not None and len(words) > params.max_tokens
        said = " ".join(words[: params.max_tokens])
        usage = ChatUsage(
            input_tokens=sum(len(str(message["content"]).split(" ")) for message in messages),
            output_tokens=len(said.split(" ")),
        )
        return ChatResponse(
            content=said,
            stopped="length" if cut else "stop",
            model="noop",
            structured=None if schema is None or cut else read_structured(said, schema),
            usage=usage,
            raw={"content": said},
        )


def _example(schema: JsonSchema, root: JsonSchema) -> Any:
    """A value that fits the schema."""
    if "$ref" in schema:
        return _example(referred(schema["$ref"], root), root)
    for key in ("enum", "anyOf"):
        if schema.get(key):
            first = schema[key][0]
            return _example(first, root) if key == "anyOf" else first
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "string")
    match kind if isinstance(kind, str) else kind[0]:
        case "object":
            known = schema.get("properties", {})
            return {name: _example(known.get(name, {}), root) for name in schema.get("required", ())}
        case "array":
            return [_example(schema.get("items", {}), root)] * schema.get("minItems", 0)
        case "integer" | "number" as number:
            least = schema.get("minimum", min(0, schema.get("maximum", 0)))
            return math.ceil(least) if number == "integer" else least
        case "boolean":
            return False
        case "null":
            return None
        case _:
            return "word"
