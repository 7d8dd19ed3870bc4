"""What do the renderers of known model families share? Each writes its convention out by hand, token for token."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from crucible.errors import Problem, RendererError
from crucible.ports.datum import ModelInput
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message, Tool, calls_of, thinking_of
from crucible.train.renderers.page import Page
from crucible.train.renderers.renderer import (
    Ending,
    ParsedResponse,
    RenderedExample,
    Renderer,
    RewrittenHistory,
    Span,
)
from crucible.train.renderers.train_on import TrainOn, trained_messages
from crucible.train.renderers.turns import unreadable_arguments

_SHORT = 32
"""Texts of up to so many characters are remembered with their ids: headers and separators, row after row."""
_REMEMBERED = 4096

_ASKED, _ANSWERED = Message(role="user", content="Hello?"), Message(role="assistant", content="Hi there.")
PROBES: Sequence[tuple[list[Message], bool]] = (
    ([_ASKED], True),
    ([_ASKED, _ANSWERED], False),
    ([_ASKED, _ANSWERED, _ASKED], True),
)
"""Short conversations, and whether the assistant is to speak next, on which renderer and template must agree."""


class FamilyRenderer(Renderer):
    """A model family's convention, written out: which control tokens and texts stand around each message.

    Next to the model's template it is faster, takes special tokens' text in a message as ordinary text, reads tool
    calls and reasoning back out of a response, and knows which turns read otherwise as history.

    controls: the special tokens that it writes; the first one ends a turn. tags: texts that it writes and expects to
    be tokens of their own. roles: those it has a way to write. template_variables: under which the model's own template
    writes the same; probes: the conversations that show it.
    writes_tools, writes_calls, writes_thinking: whether the convention has a place for them.

    Raises (when built):
        RendererError: if it does not fit the tokenizer, or the model's own template writes something else.
    """

    controls: ClassVar[tuple[str, ...]]
    tags: ClassVar[tuple[str, ...]] = ()
    roles: ClassVar[frozenset[str]] = frozenset({"system", "user", "assistant", "tool"})
    template_variables: ClassVar[Mapping[str, Any]] = {}
    probes: ClassVar[Sequence[tuple[list[Message], bool]]] = PROBES
    writes_tools: ClassVar[bool] = False
    writes_calls: ClassVar[bool] = False
    writes_thinking: ClassVar[bool] = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        problem = _missing(self.controls, self.tags, tokenizer)
        if problem is None:
            self.ids: Mapping[str, int] = {text: _token(text, tokenizer) for text in (*self.controls, *self.tags)}
            self._short: dict[str, list[int]] = {}
            problem = self._disagreement() if self.verified else None
        if problem is not None:
            raise RendererError.of(
                f"the renderer {self.name} does not fit this model: {problem}",
                where="renderer",
                given=self.name,
                fix="Use renderer=auto, which takes the one that fits",
            )

    @abstractmethod
    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        """Write the conversation; with `prompt`, also what stands before the assistant's next message.

        Each answer is begun where its generation prompt ends and ended after its end-of-turn token; `page.history`
        is told of each answer that reads otherwise than it would have to be generated.

        Raises:
            RendererError: for a conversation that the convention cannot write.
        """

    @abstractmethod
    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        """The assistant's message in sampled tokens without their end of turn, and whether it is well formed.

        cut: there was no end of turn, so a part that is still open is no fault.
        """

    @property
    def stop_sequences(self) -> list[int]:
        """The end-of-turn token, then the model's other EOS ids."""
        stop = self.ids[self.controls[0]]
        return [stop, *sorted(self.tokenizer.eos_ids - {stop})]

    @property
    def has_extension_property(self) -> bool:
        """Yes, unless the family says otherwise."""
        return True

    def build_generation_prompt(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> ModelInput:
        self.refuse_malformed(messages, tools)
        return ModelInput.from_ints(self._written(messages, tools, prompt=True))

    def build_supervised_example(
        self, messages: Sequence[Message], *, train_on: TrainOn, tools: Sequence[Tool] = ()
    ) -> RenderedExample:
        self.refuse_malformed(messages, tools)
        trained = frozenset(trained_messages(messages, train_on))
        page = Page(trained if train_on is not TrainOn.ALL_TOKENS else frozenset())
        self.write(page, messages, tools, prompt=False)
        ids, spans = page.tokens(self._encode)
        if train_on is TrainOn.ALL_TOKENS:
            return RenderedExample.from_spans(ids, [Span(message=None, start=1, end=len(ids))])
        if page.rewritten & trained:
            what = "an answer reads otherwise once it is history, so it cannot be trained there"
            raise RewrittenHistory.at(page.rewritten & trained, what)
        return RenderedExample.from_spans(ids, [span for span in spans if span.message in trained])

    def parse_response(self, tokens: Sequence[int]) -> ParsedResponse:
        ids = [int(token) for token in tokens]
        ended: Ending = "length"
        if ids and ids[-1] in self.stop_sequences:
            ended = "stop" if ids.pop() == self.ids[self.controls[0]] else "eos"
        message, whole = self.read(ids, cut=ended == "length")
        return ParsedResponse(message=message, ended=ended if whole else "malformed")

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        """As for every renderer; and refuse what the convention has no place for."""
        super().refuse_malformed(messages, tools)
        problems = [
            Problem(
                what=f"{self.name} has no place for {what}",
                where=where,
                fix="Use a model and renderer that have one, or write it into the content",
            )
            for where, what in self._homeless(messages, tools)
        ]
        problems += unreadable_arguments(messages)
        if problems:
            raise RendererError(problems)

    def _homeless(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[tuple[str, str]]:
        found = [("tools", "tool declarations")] if tools and not self.writes_tools else []
        for index, message in enumerate(messages):
            if message["role"] not in self.roles:
                found.append((f"messages[{index}]", f"the role {message['role']}"))
            if not self.writes_calls and calls_of(message):
                found.append((f"messages[{index}]", "tool calls"))
            if not self.writes_thinking and thinking_of(message):
                found.append((f"messages[{index}]", "reasoning apart from the content"))
        return found

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        known = self._short
        missing = [text for text in texts if text not in known]
        if not missing:
            return [known[text] for text in texts]
        fresh = dict(zip(missing, self.tokenizer.encode_ordinary(missing), strict=True))
        if len(known) < _REMEMBERED:
            known.update((text, ids) for text, ids in fresh.items() if len(text) <= _SHORT)
        return [fresh[text] if text in fresh else known[text] for text in texts]

    def _written(self, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> list[int]:
        page = Page()
        self.write(page, messages, tools, prompt=prompt)
        return page.tokens(self._encode)[0]

    def _disagreement(self) -> str | None:
        """Where the model's own template writes something else, in words; None if it agrees, or there is none."""
        if self.tokenizer.chat_template is None:
            return None
        for messages, prompt in self.probes:
            try:
                text = self.tokenizer.apply_chat_template(
                    messages, add_generation_prompt=prompt, **self.template_variables
                )
            except RendererError as error:
                return f"the model's own chat template refuses {[message['role'] for message in messages]} ({error})"
            wanted, got = list(self.tokenizer.encode(text).ids), self._written(messages, (), prompt=prompt)
            if wanted != got:
                return _difference(wanted, got, self.tokenizer)
        return None


def plain(ids: Sequence[int], renderer: Renderer) -> tuple[Message, bool]:
    """A response that is all content."""
    text, clean = renderer.decode_response(ids)
    return Message(role="assistant", content=text), clean


def _missing(controls: Sequence[str], tags: Sequence[str], tokenizer: Tokenizer) -> str | None:
    absent = [text for text in controls if text not in tokenizer.special_tokens]
    absent += [text for text in tags if len(tokenizer.encode(text).ids) != 1]
    return f"its vocabulary has no {', '.join(absent)}" if absent else None


def _token(text: str, tokenizer: Tokenizer) -> int:
    return tokenizer.special_tokens[text] if text in tokenizer.special_tokens else tokenizer.encode(text).ids[0]


def _difference(wanted: Sequence[int], got: Sequence[int], tokenizer: Tokenizer) -> str:
    at = next((i for i, (one, other) in enumerate(zip(wanted, got, strict=False)) if one != other), None)
    at = min(len(wanted), len(got)) if at is None else at
    after = tokenizer.decode(list(wanted[max(0, at - 8) : at]))
    theirs, ours = (tokenizer.decode(list(ids[at : at + 8])) for ids in (wanted, got))
    return f"after {after!r} its own chat template writes {theirs!r}, this renderer {ours!r}"
