"""What can a renderer do? Conversations to tokens and loss weights, and sampled tokens back to a message."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.errors import Problem, RendererError
from crucible.ports.datum import ModelInput
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message, Tool, check_messages, check_tools, shown, strings_in
from crucible.train.renderers.train_on import TrainOn, trained_messages

Ending: TypeAlias = Literal["stop", "eos", "length", "malformed"]
"""How a response ended: with the renderer's own end of turn; with another of the model's EOS tokens; with
neither (the sampler ran out of tokens); or with special tokens or turn marks where none may be."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The tokens `start` to `end` (exclusive) that train message `message` (None: all tokens are trained)."""

    message: int | None
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedExample:
    """A conversation as tokens, with the loss weight of each.

    tokens: int64 (N,).
    weights: float32 (N,), 0 or 1 (any number in a row that brings its own); `weights[t]` belongs to token t, so
        `weights[0]` is always 0: nothing precedes the first token that could predict it.
    spans: what is trained, ascending and disjoint.
    ends_without_stop: how many trained turns have no end-of-turn token, so that a model trained on them
        does not learn to stop.
    """

    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]
    spans: tuple[Span, ...]
    ends_without_stop: int = 0

    @classmethod
    def from_spans(
        cls, tokens: Sequence[int], spans: Sequence[Span], *, ends_without_stop: int = 0
    ) -> "RenderedExample":
        """Weight 1 inside the spans, but for the first token."""
        weights = np.zeros(len(tokens), dtype=np.float32)
        reached = 0
        for span in spans:
            assert reached <= span.start <= span.end <= len(tokens), f"spans overlap or leave the text: {spans}"
            weights[span.start : span.end] = 1.0
            reached = span.end
        weights[:1] = 0.0
        return cls(
            tokens=np.array(tokens, dtype=np.int64),
            weights=weights,
            spans=tuple(spans),
            ends_without_stop=ends_without_stop,
        )


@dataclass(frozen=True, kw_only=True)
class ParsedResponse:
    """A sampled response as the assistant's message, and how it ended. Only `stop` and `eos` are whole."""

    message: Message
    ended: Ending


class RewrittenHistory(RendererError):
    """Trained turns read otherwise once they are history: no single example can train them all.

    messages: the indices of those turns.
    """

    messages: frozenset[int]

    @classmethod
    def at(cls, indices: Iterable[int], what: str) -> "RewrittenHistory":
        """The error for these turns."""
        places = sorted(indices)
        error = cls([Problem(what=what, where=f"messages[{index}]", fix=ONE_TURN_PER_ROW) for index in places])
        error.messages = frozenset(places)
        return error


ONE_TURN_PER_ROW = (
    "Use train_on=last_assistant_message, or split the conversation into rows that each end with the turn they train"
)


class Renderer(ABC):
    """One convention for writing a conversation as tokens.

    What is trained is what is sampled: for a trained turn i of `build_supervised_example`, the tokens
    before its span are `build_generation_prompt(messages[:i])`, and the span is what the model must
    generate, its end of turn included. A renderer that cannot keep this for a conversation refuses it.

    Every method raises RendererError for a malformed conversation. What a message says can never end a turn or
    forge one: the text of a special token in it is ordinary text, or the message is refused.

    tools: what the assistant may call, declared where the convention has a place for it (else refused).
    verified: whether its tokens were compared with the model's own template, on its own tokenizer.
    """

    name: ClassVar[str]
    verified: ClassVar[bool] = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.special_tokens.values()) | tokenizer.eos_ids
        texts = sorted(tokenizer.special_tokens, key=len, reverse=True)
        self._special_text = re.compile("|".join(map(re.escape, texts))) if texts else None

    @property
    @abstractmethod
    def stop_sequences(self) -> list[str] | list[int]:
        """What ends a turn when sampling, as `SamplingParams.stop` takes it: strings, or token ids."""

    @property
    @abstractmethod
    def has_extension_property(self) -> bool:
        """Whether a turn's tokens stay as they were once it is history: the prompt of turn n + 1 then begins with
        prompt and answer of turn n, whatever the conversation."""

    @abstractmethod
    def build_generation_prompt(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> ModelInput:
        """The conversation up to where the assistant's next message begins."""

    @abstractmethod
    def build_supervised_example(
        self, messages: Sequence[Message], *, train_on: TrainOn, tools: Sequence[Tool] = ()
    ) -> RenderedExample:
        """The whole conversation, and which of its tokens are trained.

        Raises:
            RewrittenHistory: if trained turns read otherwise as history; `build_supervised_examples` splits them.
            RendererError: if nothing is trained, or the exact span of a trained message cannot be told:
                what is wrong, which message, what to do.
        """

    def build_supervised_examples(
        self, messages: Sequence[Message], *, train_on: TrainOn, tools: Sequence[Tool] = ()
    ) -> list[RenderedExample]:
        """As few examples as train each chosen turn once, as it was to be generated; in the order of their last turns.

        Usually one. Where history is rewritten (thinking is stripped from it), a turn that would read otherwise as
        history gets an example of its own, which ends with it.

        Raises:
            RendererError: as `build_supervised_example`; also if what is rewritten is not the assistant's.
        """
        try:
            return [self.build_supervised_example(messages, train_on=train_on, tools=tools)]
        except RewrittenHistory:
            if train_on is TrainOn.ALL_TOKENS:
                raise
        remaining = set(trained_messages(messages, train_on))
        examples: list[RenderedExample] = []
        while remaining:
            last = max(remaining)
            example, trained = self._ending_at(messages[: last + 1], remaining, tools)
            examples.append(example)
            remaining -= trained
        return examples[::-1]

    def _ending_at(
        self, messages: Sequence[Message], wanted: set[int], tools: Sequence[Tool]
    ) -> tuple[RenderedExample, set[int]]:
        """The example of these messages that trains its last one and all others `wanted` that are as generated."""
        trained, last = set(wanted), len(messages) - 1
        while True:
            flagged: list[Message] = [{**message, "trainable": i in trained} for i, message in enumerate(messages)]
            try:
                example = self.build_supervised_example(flagged, train_on=TrainOn.CUSTOMIZED, tools=tools)
            except RewrittenHistory as error:
                if last in error.messages or not error.messages & trained:
                    raise
                trained -= error.messages
            else:
                return example, trained

    @property
    def reasoning_end(self) -> str:
        """What closes reasoning that an answer need not have opened: until it is there, what seems to be content may
        turn out to be reasoning. Empty where there is no such thing."""
        return ""

    @abstractmethod
    def parse_response(self, tokens: Sequence[int]) -> ParsedResponse:
        """The assistant's message in sampled tokens, its end of turn taken off. Never raises."""

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        """Raise RendererError unless messages and tools are well formed."""
        problems = [*check_messages(messages), *check_tools(tools)]
        if problems:
            raise RendererError(problems)

    def refuse_special_text(self, messages: Sequence[Message]) -> None:
        """Raise RendererError if a message holds a special token's text: for conventions that are written as one text,
        in which it could not be told from the convention's own."""
        problems = [problem for index, message in enumerate(messages) for problem in self._injections(message, index)]
        if problems:
            raise RendererError(problems)

    def decode_response(self, ids: Sequence[int]) -> tuple[str, bool]:
        """The text of sampled tokens, and whether it is clean: no special token, and no id that the tokenizer
        lacks (models have more logits than tokens). Such ids are left out of the text."""
        known = [token for token in ids if 0 <= token < self.tokenizer.vocab_size]
        return self.tokenizer.decode(known), len(known) == len(ids) and self.special_ids.isdisjoint(known)

    def _injections(self, message: Message, index: int) -> list[Problem]:
        if self._special_text is None:
            return []
        return [
            Problem(
                what="a message holds the text of a special token, which would end or forge a turn",
                where=f"messages[{index}]",
                given=shown(found.group()),
                fix="Take it out of the text, or leave the row out",
            )
            for text in strings_in(message)
            if (found := self._special_text.search(text)) is not None
        ]
