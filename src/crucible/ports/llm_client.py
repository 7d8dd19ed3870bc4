"""What does another model say? An `LLMClient`: messages in, text out. A judge, a teacher, a user that is played."""

import json
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from crucible.ports.future import Future
from crucible.ports.json_schema import JsonSchema, misfits, require_schema
from crucible.ports.port import Port

ChatStop: TypeAlias = Literal["stop", "length", "refused"]
"""stop: the answer is whole. length: it was cut at `max_tokens`. refused: the model or a filter would not answer."""


@dataclass(frozen=True, kw_only=True)
class ChatParams:
    """How to answer. None leaves it to the backend.

    max_tokens: most tokens to write; temperature: 0 is greedy; top_p: 1 is off; stop: strings that end the answer.

    Raises:
        ValueError: if a value is out of range.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens is at least 1; got {self.max_tokens}")
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is a number from 0; got {self.temperature}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is above 0 and at most 1; got {self.top_p}")
        if isinstance(self.stop, str) or not all(self.stop):
            raise ValueError(f"stop is a sequence of texts that are not empty; got {self.stop!r}")


DEFAULTS = ChatParams()
"""Everything is left to the backend."""


@dataclass(frozen=True, kw_only=True)
class ChatUsage:
    """What a call took, in the backend's own tokens."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class ChatResponse:
    """One answer.

    model: the model that answered, by its own account.
    structured: where a schema was asked for and `stopped` is `stop`, the content as JSON data that fits it;
        otherwise None.
    usage, cost (US dollars): None where the backend does not say; neither is ever made up.
    raw: what the backend sent, as JSON data: for a stream, the list of its events.
    """

    content: str
    stopped: ChatStop
    model: str
    structured: Any = None
    usage: ChatUsage | None = None
    cost: float | None = None
    raw: object = None


@dataclass(frozen=True, kw_only=True)
class ChatChunk:
    """A piece of an answer as it is written. response: the whole answer, on the last piece alone."""

    text: str
    response: ChatResponse | None = None


@dataclass(frozen=True, kw_only=True)
class LLMCapabilities:
    """What a backend can do.

    computes: False for a fake whose answers follow no model.
    exact: the same messages and parameters, with a seed, give the same answer.
    structured: answers can be held to a JSON Schema.
    """

    computes: bool = True
    exact: bool = False
    structured: bool = True


class LLMClient(Port):
    """A chat model. Calls are independent and run side by side.

    A message is a mapping with `role` and `content`, as the chat formats of this field have it.
    Every call raises PortError when the backend fails: retryable for network trouble, a timeout, 429 and 5xx, and
    for an answer that breaks off or does not fit its schema; not for a refused key or a refused request.
    """

    port_name: ClassVar[str] = "llm_client"

    @abstractmethod
    def capabilities(self) -> LLMCapabilities:
        """What this backend can do. Cheap; sends nothing."""

    @abstractmethod
    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        params: ChatParams = DEFAULTS,
        schema: JsonSchema | None = None,
    ) -> Future[ChatResponse]:
        """The answer to a conversation; with `schema`, a JSON object that fits it.

        Raises (through the future):
            ValueError: if there is no message, one has no role or no content, or the schema is not of an object.
            UnsupportedError: for a schema, where the backend cannot hold an answer to one.
        """

    @abstractmethod
    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], *, params: ChatParams = DEFAULTS
    ) -> AsyncGenerator[ChatChunk]:
        """The answer as it is written. The pieces' texts together are the content of the last piece's response.

        Leaving early (`aclose`, or an exception in the loop) ends the request.

        Raises (from the iteration):
            ValueError: as for `chat`.
        """


def require_conversation(messages: Sequence[Mapping[str, Any]], schema: JsonSchema | None = None) -> None:
    """The check that every adapter makes first.

    Raises:
        ValueError: see `LLMClient.chat`.
    """
    if not messages:
        raise ValueError("a conversation has at least one message")
    for index, message in enumerate(messages):
        missing = [key for key in ("role", "content") if not isinstance(message.get(key), (str, list))]
        if missing:
            raise ValueError(f"message {index} has no {' and no '.join(missing)}")
    if schema is not None:
        require_schema(schema)
        if schema.get("type") != "object":
            raise ValueError(f"the schema of an answer is of type object; got {schema.get('type')!r}")


def read_structured(content: str, schema: JsonSchema) -> Any:
    """The answer's JSON data.

    Raises:
        ValueError: if the content is not JSON, or does not fit the schema; the message says where.
    """
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        raise ValueError(f"the answer is not JSON: {error}") from error
    if wrong := list(misfits(value, schema)):
        raise ValueError(f"the answer does not fit its schema: {'; '.join(wrong[:3])}")
    return value
