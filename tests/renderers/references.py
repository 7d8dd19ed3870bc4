"""What does a model's own chat template, run by transformers on the model's own tokenizer, make of a conversation?

Messages are fed as the templates' own documentation asks: a call's arguments as an object, no content as empty text
(DeepSeek V3 alone wants the arguments as JSON text, which it pastes, and null for no content beside calls); reasoning
under `thinking`, which transformers passes on under the other names too; tools only where some are declared. Templates
that ask for today's date are told one day, always.
"""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from corpus import Conversation
from families import family_folder
from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from crucible.train.messages import Message

TODAY = datetime(2024, 7, 26)

_CALLS_AS_TEXT = ("deepseek_v3",)
MUTATES = ("kimi_k2",)
"""Templates that append to a list, which the sandbox of transformers (and ours) refuses: they are run in another."""
_ASKS_FOR_NULL = ("deepseek_v3",)
"""Templates that ask for null contents, which transformers takes out of the messages: they are run without it."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The template does not write the conversation: its own sentence, or Jinja's."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Token ids of the whole conversation, and of the prompt for its last answer (or for the next one)."""

    whole: list[int] | Refusal
    prompt: list[int] | Refusal


def before_the_answer(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages that the last answer was generated from: all of them where none is the last."""
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


def reference(family: str, conversation: Conversation, variables: Mapping[str, object]) -> Reference:
    """What the family's template makes of the conversation. variables: given to the template besides."""
    tokenizer = _tokenizer(family_folder(family))
    tools = [dict(tool) for tool in conversation.tools] or None

    def written(messages: tuple[Message, ...], *, prompt: bool) -> list[int] | Refusal:
        fed = as_fed(family, messages)
        try:
            if family in (*MUTATES, *_ASKS_FOR_NULL):
                text = _text(tokenizer, fed, tools=tools, add_generation_prompt=prompt)
                return tokenizer.encode(text, add_special_tokens=False)
            with _the_day():
                return tokenizer.apply_chat_template(
                    fed, tools=tools, tokenize=True, return_dict=False, add_generation_prompt=prompt, **variables
                )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            return Refusal(reason=str(error))

    messages = conversation.messages
    return Reference(whole=written(messages, prompt=False), prompt=written(before_the_answer(messages), prompt=True))


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Any:
    import transformers

    auto: Any = transformers.AutoTokenizer
    return auto.from_pretrained(folder)


def as_fed(family: str, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The messages in the form that the family's template asks for."""
    return [_fed(message, text=family in _CALLS_AS_TEXT) for message in messages]


def _fed(message: Message, *, text: bool) -> dict[str, Any]:
    fed: dict[str, Any] = {**message, "content": message["content"] or ""}
    if "tool_calls" in message and text:
        fed["content"] = message["content"] or None
    elif "tool_calls" in message:
        fed["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return fed


def _text(tokenizer: Any, messages: list[dict[str, Any]], **variables: object) -> str:
    environment = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    template = environment.from_string(tokenizer.chat_template)
    return template.render(messages=messages, **tokenizer.special_tokens_map, **variables)


@contextmanager
def _the_day() -> Generator[None]:
    """transformers' templates read the clock through this module's `datetime`."""
    from transformers.utils import chat_template_utils

    module: Any = chat_template_utils

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # noqa: ARG003  (as in datetime)
            return TODAY

    before, module.datetime = module.datetime, Clock
    try:
        yield
    finally:
        module.datetime = before
