"""What may a client of OpenAI's API ask for here, and what is refused by name?

Fields that change nothing that is answered (`user`, `metadata`, ...) are taken and ignored. A field that asks for what
we do not do is refused unless it says what is the case anyway (`logit_bias: {}`). So is a field nobody knows: to
ignore it would be to answer another question than was asked.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from starlette.requests import Request

from crucible.server.bodies import decode_json, read_body
from crucible.server.limits import Limits
from crucible.server.openai_errors import OpenAiError

_Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
_Seed = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]
_TopP = Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
_TopK = Annotated[int, msgspec.Meta(ge=-1, le=1 << 24)]
_Top = Annotated[int, msgspec.Meta(ge=0, le=20)]
_StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
_Stop: TypeAlias = _StopText | Annotated[list[_StopText], msgspec.Meta(max_length=16)] | None

IGNORED = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)

_NEUTRAL: Mapping[str, Sequence[object]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "min_p": (None, 0),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "reasoning_effort": (None,),
    "repetition_penalty": (None, 1),
    "response_format": (None, {"type": "text"}),
    "suffix": (None, ""),
    "tool_choice": (None, "auto"),
    "verbosity": (None,),
    "web_search_options": (None,),
}
"""What we do not do, and the values that ask for nothing."""


class StreamOptions(msgspec.Struct):
    """include_usage: one more event with the counts of tokens, before the end."""

    include_usage: bool = False


class _Asked(msgspec.Struct, kw_only=True):
    """What both kinds of completion take."""

    model: str
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] | None = None
    temperature: _Temperature | None = None
    top_p: _TopP | None = None
    top_k: _TopK | None = None
    seed: _Seed | None = None
    stop: _Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a completion."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatRequest(_Asked, kw_only=True):
    """A chat completion."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    max_completion_tokens: _Positive | None = None
    logprobs: bool | None = None
    top_logprobs: _Top | None = None


class CompletionRequest(_Asked, kw_only=True):
    """A completion of texts, or of token ids."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: _Top | None = None


R = TypeVar("R", bound=_Asked)


async def read_request(request: Request, kind: type[R], limits: Limits) -> R:
    """The body as a request of this kind.

    Raises:
        Refusal: if it is too large, or not JSON of this kind.
        OpenAiError: if it asks for what is not done here.
    """
    body = await read_body(request, limits)
    fields = decode_json(body, dict[str, Any])
    known = frozenset(kind.__struct_fields__)
    for name, value in fields.items():
        if name in known or name in IGNORED:
            continue
        if name not in _NEUTRAL:
            raise OpenAiError(400, f"{name}: this server knows no such field", param=name[:100])
        if value not in _NEUTRAL[name]:
            raise OpenAiError(400, f"{name}: this server does not do what this asks for", param=name)
    return decode_json(body, kind)
