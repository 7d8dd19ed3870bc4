"""How is a conversation written for a model without a chat template? As `User: ...`, blank line, `Assistant: ...`.

The convention and the tokens are tinker-cookbook's `role_colon`: BOS where the model has one; each header
(`User:`) and each body (space, content, blank line) tokenised apart; the last answer followed by the
`User:` that completes the stop sequence. One thing differs: an answer inside a conversation trains the
`User:` after it too, since that is what the model must generate to stop there.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

from crucible.errors import Problem, RendererError
from crucible.ports.datum import ModelInput
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import THINKING_KEYS, Message, Tool, shown, text_of
from crucible.train.renderers.renderer import Ending, ParsedResponse, RenderedExample, Renderer, Span
from crucible.train.renderers.train_on import TrainOn, trained_messages

_SEPARATOR = "\n\n"
_STOP = "\n\nUser:"
_FORGED_TURNS = (_STOP, "\n\nAssistant:")


class RoleColonRenderer(Renderer):
    """`User: q`, blank line, `Assistant: a`, blank line, `User:`."""

    name: ClassVar[str] = "role_colon"

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._header = lru_cache(maxsize=16)(self._encode_header)

    @property
    def stop_sequences(self) -> list[str]:
        """`User:` after a blank line."""
        return [_STOP]

    @property
    def has_extension_property(self) -> bool:
        """Yes: nothing that was written changes."""
        return True

    def build_generation_prompt(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> ModelInput:
        self.refuse_malformed(messages, tools)
        tokens = self._bos()
        for message in messages:
            tokens += [*self._header(message["role"]), *self._body(message)]
        return ModelInput.from_ints([*tokens, *self._header("assistant")])

    def build_supervised_example(
        self, messages: Sequence[Message], *, train_on: TrainOn, tools: Sequence[Tool] = ()
    ) -> RenderedExample:
        self.refuse_malformed(messages, tools)
        trained = set(trained_messages(messages, train_on))
        tokens, spans, unstopped = self._bos(), list[Span](), 0
        for index, message in enumerate(messages):
            tokens += self._header(message["role"])
            start = len(tokens)
            tokens += self._body(message)
            end = len(tokens)
            answer = message["role"] == "assistant"
            last = index == len(messages) - 1
            if answer and (last or messages[index + 1]["role"] == "user"):
                end += len(self._header("user"))
            if answer and last:
                tokens += self._header("user")
            if index in trained:
                spans.append(Span(message=index, start=start, end=end))
                unstopped += answer and not last and messages[index + 1]["role"] != "user"
        if train_on is TrainOn.ALL_TOKENS:
            spans = [Span(message=None, start=1, end=len(tokens))]
        return RenderedExample.from_spans(tokens, spans, ends_without_stop=unstopped)

    def parse_response(self, tokens: Sequence[int]) -> ParsedResponse:
        ids = [int(token) for token in tokens]
        ended_by_eos = bool(ids) and ids[-1] in self.tokenizer.eos_ids
        if ended_by_eos:
            ids.pop()
        text, clean = self.decode_response(ids)
        content, stopped, rest = text.partition(_STOP)
        ended: Ending = "stop" if stopped else "eos" if ended_by_eos else "length"
        if rest.strip() or (stopped and ended_by_eos) or not clean:
            ended = "malformed"
        content = content.removeprefix(" ")
        if ended == "eos":
            content = content.removesuffix(_SEPARATOR)
        return ParsedResponse(message=Message(role="assistant", content=content), ended=ended)

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        """As for every renderer; and refuse what this form cannot write, and turns forged in the text."""
        super().refuse_malformed(messages, tools)
        self.refuse_special_text(messages)
        problems = [
            problem for index, message in enumerate(messages) for problem in _unwritable(message, f"messages[{index}]")
        ]
        if tools:
            fix = "Describe them in a system message, or use a model with a chat template"
            problems.append(Problem(what="role_colon has no way to declare tools", where="tools", fix=fix))
        if problems:
            raise RendererError(problems)

    def _bos(self) -> list[int]:
        return [] if self.tokenizer.bos_id is None else [self.tokenizer.bos_id]

    def _encode_header(self, role: str) -> tuple[int, ...]:
        return self.tokenizer.encode(f"{role.capitalize()}:").ids

    def _body(self, message: Message) -> tuple[int, ...]:
        return self.tokenizer.encode(f" {text_of(message)}{_SEPARATOR}").ids


def _unwritable(message: Message, where: str) -> list[Problem]:
    problems = [
        Problem(
            what="role_colon has no way to write a part of the message",
            where=where,
            given=key,
            fix="Put it into the content, or use a model with a chat template",
        )
        for key in ("tool_calls", *THINKING_KEYS)
        if message.get(key)
    ]
    forged = [mark for mark in _FORGED_TURNS if mark in text_of(message)]
    if forged:
        what = "a message holds the mark of another turn, which would end or forge one"
        problems.append(Problem(what=what, where=where, given=shown(forged[0]), fix="Take it out of the text"))
    return problems
