"""How does a model's chat template become text? As transformers renders it, so that the text is the same."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crucible.errors import RendererError
from crucible.ports.tokenizer import TODAY


class ChatTemplate:
    """A compiled chat template. Thread-safe.

    A template that asks for today's date (`strftime_now`) always gets `TODAY`: the same rows give the same tokens
    every day, and a trained model is talked to under the date that it was trained with.

    Raises:
        RendererError: if the source is not a Jinja template.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise RendererError.of(f"the model's chat template is not valid: {error}") from error

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: object) -> str:
        """The conversation as text.

        Raises:
            RendererError: if the template refuses the conversation, or cannot deal with its shape.
        """
        plain = [_with_reasoning(_plain(message)) for message in messages]
        try:
            return self._template.render(messages=plain, **{key: _plain(value) for key, value in variables.items()})
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise RendererError.of(f"the model's chat template refuses the conversation: {error}") from error


class _GenerationTag(Extension):
    """Accepts `{% generation %}...{% endgeneration %}`, with which some templates mark the assistant's part."""

    tags = {"generation"}  # noqa: RUF012  (declared so by jinja)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    functions: dict[str, Any] = {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
    environment.globals.update(functions)
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML, which a prompt must not be."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return TODAY.strftime(form)


def _plain(value: Any) -> Any:
    """The value in plain JSON types: a template is code from elsewhere and gets no objects with methods."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast(Mapping[object, object], value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast(Sequence[object], value)]
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise RendererError.of(f"a chat template takes plain JSON values, not {type(value).__name__}", given=value)


_REASONING = ("reasoning_content", "thinking", "reasoning")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Reasoning under one name is there under the names that templates read, as in transformers."""
    reasoning = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}
