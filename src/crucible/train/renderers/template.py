"""How is a conversation written by the model's own chat template, and which tokens exactly must the model produce?

The tokens are those of the whole text as the template writes it. A trained turn starts where the text of
its generation prompt ends, `P = render(messages[:i], add_generation_prompt=True)`, and stops with its
end-of-turn token. Three things can make that wrong without anyone noticing, and each is checked and refused:
the template writes the past differently from the present (P is no prefix of the text, or the turn reads
otherwise as history than as the last turn); a token straddles the border between prompt and answer; the
template leaves a part of the message out.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any, ClassVar

from crucible.errors import RendererError
from crucible.ports.datum import ModelInput
from crucible.ports.tokenizer import Encoding, Tokenizer
from crucible.train.messages import THINKING_KEYS, Message, Tool, calls_of, text_of
from crucible.train.renderers.renderer import (
    ONE_TURN_PER_ROW,
    Ending,
    ParsedResponse,
    RenderedExample,
    Renderer,
    RewrittenHistory,
    Span,
)
from crucible.train.renderers.train_on import TrainOn, trained_messages

# A private-use character: no data holds it, no template looks for it, and no tokenizer gives it a meaning.
_MARK = "\ue0a7"


@dataclass(frozen=True)
class _Written:
    """A conversation as the template sees it (`views`), writes it (`text`), and as tokens."""

    messages: Sequence[Message]
    views: list[dict[str, Any]]
    tools: Sequence[Tool]
    text: str
    encoding: Encoding


@dataclass(frozen=True)
class _Turn:
    """A trained turn; `stop` is its end-of-turn token, None where it has none."""

    span: Span
    stop: int | None


@dataclass(frozen=True)
class _Wrapping:
    """What the template puts around an answer: text before it, text after it, the token that ends it."""

    lead: str = ""
    trail: str = ""
    stop: int | None = None


class TemplateRenderer(Renderer):
    """The model's chat template, with exact spans.

    Raises (when built):
        RendererError: if the model has no chat template.
    """

    name: ClassVar[str] = "template"

    def __init__(self, tokenizer: Tokenizer) -> None:
        if tokenizer.chat_template is None:
            raise RendererError.of(
                "the model has no chat template", where="renderer", given=self.name, fix="Use renderer=role_colon"
            )
        super().__init__(tokenizer)
        # Prompts end in the same few header texts, row after row.
        self._encode_tail = lru_cache(maxsize=256)(self._ids)
        self._wrapping = self._probe()

    @property
    def stop_sequences(self) -> list[int]:
        """The end-of-turn token, then the model's other EOS ids."""
        stop = self._wrapping.stop
        others = sorted(self.tokenizer.eos_ids - {stop})
        return others if stop is None else [stop, *others]

    @property
    def has_extension_property(self) -> bool:
        """Whether it was seen to hold on a conversation with reasoning, which templates like to strip from history."""
        asked, answer = Message(role="user", content="?"), Message(role="assistant", content=_MARK)
        thought = Message(role="assistant", content=_MARK, reasoning_content="-")
        try:
            for said in (answer, thought):
                chat = [_view(message) for message in (asked, said, asked)]
                before, after = self._render(chat[:2]), self._render(chat, prompt=True)
                prompt = self._render(chat[:1], prompt=True)
                if not (after.startswith(before.rstrip()) and before.startswith(prompt)):
                    return False
        except RendererError:
            return False
        return True

    def build_generation_prompt(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> ModelInput:
        self._refuse(messages, tools)
        text = self._render([_view(message) for message in messages], tools=tools, prompt=True)
        return ModelInput.from_ints(self._encode(text).ids)

    def build_supervised_example(
        self, messages: Sequence[Message], *, train_on: TrainOn, tools: Sequence[Tool] = ()
    ) -> RenderedExample:
        self._refuse(messages, tools)
        trained = trained_messages(messages, train_on)
        written = self._write(messages, tools)
        ids = written.encoding.ids
        if train_on is TrainOn.ALL_TOKENS:
            return RenderedExample.from_spans(ids, [Span(message=None, start=1, end=len(ids))])
        turns: list[_Turn] = []
        rewritten: dict[int, str] = {}
        for index in trained:
            try:
                answer = messages[index]["role"] == "assistant"
                turns.append(self._turn(written, index) if answer else self._content(written, index))
            except RewrittenHistory as error:
                rewritten[index] = error.problems[0].what
        if rewritten:
            raise RewrittenHistory.at(rewritten, rewritten[min(rewritten)])
        unstopped = sum(turn.stop is None for turn in turns)
        return RenderedExample.from_spans(ids, [turn.span for turn in turns], ends_without_stop=unstopped)

    def parse_response(self, tokens: Sequence[int]) -> ParsedResponse:
        ids = [int(token) for token in tokens]
        ended: Ending = "length"
        if ids and ids[-1] in self.stop_sequences:
            ended = "stop" if ids.pop() == self._wrapping.stop else "eos"
        text, clean = self.decode_response(ids)
        if not clean:
            ended = "malformed"
        text = text.removeprefix(self._wrapping.lead)
        if ended != "length" or self._wrapping.stop is None:
            text = text.removesuffix(self._wrapping.trail)
        return ParsedResponse(message=Message(role="assistant", content=text), ended=ended)

    def _refuse(self, messages: Sequence[Message], tools: Sequence[Tool]) -> None:
        self.refuse_malformed(messages, tools)
        self.refuse_special_text(messages)

    def _write(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> _Written:
        views = [_view(message) for message in messages]
        text = self._render(views, tools=tools)
        return _Written(messages, views, tools, text, self._encode(text))

    def _render(self, views: Sequence[dict[str, Any]], *, tools: Sequence[Tool] = (), prompt: bool = False) -> str:
        return self.tokenizer.apply_chat_template(views, add_generation_prompt=prompt, tools=list(tools) or None)

    def _ids(self, text: str) -> tuple[int, ...]:
        return self.tokenizer.encode(text).ids

    def _encode(self, text: str) -> Encoding:
        encoding = self.tokenizer.encode(text)
        bos = self.tokenizer.bos_id
        if bos is not None and encoding.ids[:2] == (bos, bos):
            raise RendererError.of(
                "the text starts with BOS twice: both the template and the tokenizer write it",
                fix="Keep BOS in one of them: the tokenizer must add no token of its own",
            )
        return encoding

    def _turn(self, written: _Written, index: int) -> _Turn:
        """The span of assistant message `index`: from the end of its prompt through its end-of-turn token."""
        ids, offsets = written.encoding.ids, written.encoding.offsets
        prompt = self._render(written.views[:index], tools=written.tools, prompt=True)
        if not written.text.startswith(prompt):
            what = "the template writes the conversation before an answer differently once the answer is there"
            raise RewrittenHistory.at([index], what)
        start = self._border(written, len(prompt), index)
        # The turn as it reads when it is the last one, which is how the model will have to produce it.
        last = index == len(written.views) - 1
        present = written.text if last else self._render(written.views[: index + 1], tools=written.tools)
        shared = _common_prefix(present, written.text)
        stop_at = self._stop_position(written, start, shared)
        if stop_at is not None and self._only_marks(present[offsets[stop_at][1] :]):
            turn = _Turn(Span(message=index, start=start, end=stop_at + 1), ids[stop_at])
        elif shared == len(present):
            if stop_at is not None and ids[stop_at] in self.tokenizer.eos_ids:
                raise _refusal("the template goes on with a turn after an EOS token, where sampling stops", index)
            turn = _Turn(Span(message=index, start=start, end=_token_at(written, shared, index)), None)
        else:
            raise RewrittenHistory.at([index], "the template writes an answer differently once it is history")
        self._check_complete(written, turn.span)
        return turn

    def _stop_position(self, written: _Written, start: int, limit: int) -> int | None:
        """The first EOS token from token `start` to character `limit`, where sampling stops; if there is none,
        the last special token there."""
        ids, offsets = written.encoding.ids, written.encoding.offsets
        special = [
            position
            for position in range(start, bisect_left(offsets, (limit,)))
            if ids[position] in self.special_ids and offsets[position][1] <= limit
        ]
        stopping = (position for position in special if ids[position] in self.tokenizer.eos_ids)
        return next(stopping, special[-1] if special else None)

    def _only_marks(self, text: str) -> bool:
        """Whether a text is nothing but white space and special tokens."""
        return not (self._special_text.sub("", text) if self._special_text else text).strip()

    def _border(self, written: _Written, at: int, index: int) -> int:
        """The token that starts at character `at`, after checking that the text up to there, alone, gives
        the tokens before it: what the model will be prompted with is what it was trained after."""
        ids, offsets = written.encoding.ids, written.encoding.offsets
        border = _token_at(written, at, index)
        # Text before a special token is tokenised apart from what follows, so the tail from there on decides.
        tail = self._last_special(ids, border)
        tail_text = written.text[offsets[tail][0] if tail else 0 : at]
        if self._encode_tail(tail_text) != ids[tail:border]:
            raise _straddle(written, at, index)
        return border

    def _last_special(self, ids: Sequence[int], end: int) -> int:
        """The last special token before token `end`; 0 where there is none."""
        return next((position for position in range(end - 1, -1, -1) if ids[position] in self.special_ids), 0)

    def _check_complete(self, written: _Written, span: Span) -> None:
        """Refuse a turn that lacks a part of its message: what the user wrote is what must be trained."""
        assert span.message is not None
        parts, turn = _parts(written.messages[span.message]), ""
        if span.end > span.start:
            offsets = written.encoding.offsets
            # A template may open the answer in the prompt already (`<think>`), after its last special token.
            opening = offsets[self._last_special(written.encoding.ids, span.start)][0]
            turn = written.text[opening : offsets[span.end - 1][1]]
        if all(part in turn for part in parts):
            return
        # Templates may trim and re-wrap; only what is lost or changed beyond white space is refused.
        squeezed = "".join(turn.split())
        if not all("".join(part.split()) in squeezed for part in parts):
            raise _refusal(
                "the template leaves out or changes a part of the answer",
                span.message,
                fix="Write the message as the template does, or use another renderer",
            )

    def _content(self, written: _Written, index: int) -> _Turn:
        """The span of another role's message: its content, and the special token directly after it.

        The content is found by writing the conversation again with a mark in its place, so a content that
        also occurs in a header ("user") is not mistaken for it.
        """
        content = text_of(written.messages[index])
        marked = list(written.views)
        marked[index] = {**marked[index], "content": _MARK}
        before, found, after = self._render(marked, tools=written.tools).partition(_MARK)
        end = len(written.text) - len(after)
        whole = found and _MARK not in after and written.text.startswith(before) and written.text.endswith(after)
        if not whole or written.text[len(before) : end] not in (content, content.strip()):
            raise _refusal(
                "the template does not write a message's content once and unchanged, so it cannot be told apart", index
            )
        start = self._border(written, len(before), index)
        stop = _token_at(written, end, index)
        closed = stop < len(written.encoding.ids) and written.encoding.ids[stop] in self.special_ids
        return _Turn(
            Span(message=index, start=start, end=stop + closed), written.encoding.ids[stop] if closed else None
        )

    def _probe(self) -> _Wrapping:
        """What the template puts around an answer, seen on the shortest conversation."""
        try:
            written = self._write([Message(role="user", content="?"), Message(role="assistant", content=_MARK)])
            turn = self._turn(written, 1)
        except RendererError:
            # Some templates refuse or rewrite it; their conversations are then judged one by one.
            return _Wrapping()
        offsets, end = written.encoding.offsets, turn.span.end - (turn.stop is not None)
        answer = written.text[offsets[turn.span.start][0] : offsets[end - 1][1]]
        lead, _, trail = answer.partition(_MARK)
        return _Wrapping(lead, trail, turn.stop)


def _view(message: Message) -> dict[str, Any]:
    """The message as templates expect it: content as plain text, none of our own keys."""
    view: dict[str, Any] = {key: value for key, value in message.items() if key != "trainable"}
    if message["content"] is not None:
        view["content"] = text_of(message)
    return view


def _parts(message: Message) -> list[str]:
    """The texts of a message that its turn must show."""
    thinking = [text for key in THINKING_KEYS if isinstance(text := message.get(key), str)]
    return [text_of(message), *thinking, *(call.name for call in calls_of(message))]


def _token_at(written: _Written, at: int, index: int) -> int:
    """The first token from character `at` on, after checking that none reaches over it."""
    offsets = written.encoding.offsets
    position = bisect_left(offsets, (at,))
    if position and offsets[position - 1][1] > at:
        raise _straddle(written, at, index)
    return position


def _common_prefix(one: str, other: str) -> int:
    if other.startswith(one):
        return len(one)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _refusal(what: str, index: int, *, given: str = "", fix: str = ONE_TURN_PER_ROW) -> RendererError:
    return RendererError.of(what, where=f"messages[{index}]", given=given, fix=fix)


def _straddle(written: _Written, at: int, index: int) -> RendererError:
    return _refusal(
        "a token reaches over the border of a trained span, so no mask can be exact",
        index,
        given=repr(written.text[max(at - 12, 0) : at + 12]),
        fix="Take white space off the ends of the content; if there is none, the template and the tokenizer do not "
        "fit each other: use renderer=role_colon",
    )
