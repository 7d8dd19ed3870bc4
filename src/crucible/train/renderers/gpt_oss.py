"""How does gpt-oss write a conversation? Harmony: every message has a header, an answer's parts have channels.

Source: the chat template of openai/gpt-oss-20b (and -120b), and OpenAI's description of the harmony format.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from crucible.errors import Problem, RendererError
from crucible.ports.tokenizer import TODAY
from crucible.train.messages import Message, Tool, as_json, call_message, calls_of, text_of, thinking_of
from crucible.train.renderers.family import FamilyRenderer, plain
from crucible.train.renderers.gpt_oss_tools import declared
from crucible.train.renderers.marked import object_call
from crucible.train.renderers.page import Page
from crucible.train.renderers.renderer import ParsedResponse

START, END, MESSAGE, CHANNEL = "<|start|>", "<|end|>", "<|message|>", "<|channel|>"
RETURN, CALL, CONSTRAIN = "<|return|>", "<|call|>", "<|constrain|>"

_SYSTEM = (
    "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    f"Current date: {TODAY:%Y-%m-%d}\n\nReasoning: {{effort}}\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
)
_SYSTEM_WITH_TOOLS = f"{_SYSTEM}\nCalls to these tools must go to the commentary channel: 'functions'."

# The model names the recipient before the channel or after it; and the form of what it writes with a token or without.
_AUTHOR = f"{START}assistant"
_HEADER = re.compile(
    rf"{re.escape(_AUTHOR)}(?: to=(?P<before>.+?))? ?<\|channel\|>(?P<channel>analysis|commentary|final)"
    r"(?: to=(?P<after>\S+?))?(?: ?(?:<\|constrain\|>)? ?\w+)?"
)
_BEGUN = re.compile(
    rf"{re.escape(_AUTHOR)}(?: (?:to?)?| to=.*?)? ?(?:<\|channel\|>\w*(?: to=\S*?)? ?\w*(?:<\|constrain\|>)? ?\w*)?"
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One message of those that a response consists of. whole: whether its own end was there."""

    channel: str
    recipient: str
    body: str
    whole: bool


class GptOssRenderer(FamilyRenderer):
    """gpt-oss with medium effort. A turn is reasoning (channel analysis), then an answer (final) or one call
    (commentary); as in the template, what is said beside a call counts as reasoning, and reasoning stays only until
    there is an answer.

    An answer ends with `<|return|>`, in history with `<|end|>`. So it can be trained only where the conversation ends
    with it; a call, which ends with `<|call|>`, as long as there is no further answer but the last message.

    It differs from the template on purpose. The reasoning before calls stays where the last message answers to them, as
    it does in the prompt for that message: the template drops it once the answer is there. What the template drops
    without a word is refused: later system messages, and calls after the first of a turn. What it refuses is written as
    harmony has it: content beside both reasoning and a call, as a preamble in the channel commentary; a tool without a
    description.
    """

    name: ClassVar[str] = "gpt_oss"
    effort: ClassVar[str] = "medium"
    controls: ClassVar[tuple[str, ...]] = (RETURN, CALL, START, END, MESSAGE, CHANNEL, CONSTRAIN)
    roles: ClassVar[frozenset[str]] = frozenset({"system", "developer", "user", "assistant", "tool"})
    template_variables: ClassVar = {"reasoning_effort": "medium"}
    writes_tools: ClassVar[bool] = True
    writes_calls: ClassVar[bool] = True
    writes_thinking: ClassVar[bool] = True

    @property
    def stop_sequences(self) -> list[int]:
        """The ends of an answer and of a call, then the model's other EOS ids."""
        ends = [self.ids[RETURN], self.ids[CALL]]
        return [*ends, *sorted(self.tokenizer.eos_ids.difference(ends))]

    @property
    def has_extension_property(self) -> bool:
        """No: history has no reasoning, and other ends."""
        return False

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        self._header(page, "system")
        page.text((_SYSTEM_WITH_TOOLS if tools else _SYSTEM).format(effort=self.effort))
        page.token(self.ids[END])
        start = int(messages[0]["role"] in ("system", "developer"))
        self._developer(page, messages[0] if start else None, tools)
        answered = _last_answer(messages if prompt else messages[:-1])
        called = ""
        for index in range(start, len(messages)):
            message = messages[index]
            if message["role"] == "assistant":
                calls = calls_of(message)
                called = calls[0].name if calls else ""
                page.token(self.ids[START])
                page.text("assistant")
                if calls:
                    self._call(page, message, index, kept=index > answered)
                else:
                    self._answer(page, message, index, last=index == len(messages) - 1 and not prompt)
            elif message["role"] == "tool":
                self._header(page, f"functions.{called} to=assistant", "commentary")
                page.said(index, as_json(text_of(message)), stop=self.ids[END])
            else:
                self._header(page, "user")
                page.said(index, text_of(message), stop=self.ids[END])
        if prompt:
            page.token(self.ids[START])
            page.text("assistant")

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        super().refuse_malformed(messages, tools)
        problems: list[Problem] = []
        called = False
        for index, message in enumerate(messages):
            role, calls = message["role"], calls_of(message)
            if index and role in ("system", "developer"):
                problems.append(_problem(index, "a later system or developer message", "Put all of it at the start"))
            if len(calls) > 1:
                problems.append(_problem(index, "several calls in a turn", "Give each call a message of its own"))
            if role == "tool" and not called:
                problems.append(_problem(index, "a tool's result without a call before it", "Put the call before it"))
            called = bool(calls) if role == "assistant" else called
        if problems:
            raise RendererError(problems)

    def parse_response(self, tokens: Sequence[int]) -> ParsedResponse:
        """As of every family; a call has an end of its own, which nothing else may have."""
        parsed = super().parse_response(tokens)
        if parsed.ended not in ("stop", "eos"):
            return parsed
        called = bool(calls_of(parsed.message))
        if called != (int(tokens[-1]) == self.ids[CALL]):
            return ParsedResponse(message=plain(tokens, self)[0], ended="malformed")
        return ParsedResponse(message=parsed.message, ended="stop" if called else parsed.ended)

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        parts = self._parts(ids, cut=cut)
        message = None if parts is None else _message(parts, cut=cut)
        return (plain(ids, self)[0], False) if message is None else (message, True)

    def _developer(self, page: Page, message: Message | None, tools: Sequence[Tool]) -> None:
        """The system message, if one was given, and the tools: harmony's own system message is not the user's."""
        said = "" if message is None else text_of(message)
        if said or tools:
            self._header(page, "developer")
            page.text("# Instructions\n\n" if said else "")
        if message is not None:
            page.said(0, said)
        page.text("\n\n" if said else "")
        if tools:
            page.text(f"# Tools\n\n{declared(tools)}")
        if said or tools:
            page.token(self.ids[END])

    def _answer(self, page: Page, message: Message, index: int, *, last: bool) -> None:
        if not last:
            page.history(index)
        page.begin(index)
        if last and thinking_of(message):
            self._part(page, "analysis", thinking_of(message))
        self._channel(page, "final")
        page.text(text_of(message))
        page.token(self.ids[RETURN if last else END])
        page.end()

    def _call(self, page: Page, message: Message, index: int, *, kept: bool) -> None:
        (call,) = calls_of(message)
        thinking, content = thinking_of(message), text_of(message)
        reasoning, preamble = (thinking, content) if thinking else (content, "")
        if not kept:
            page.history(index)
        page.begin(index)
        if reasoning and kept:
            self._part(page, "analysis", reasoning)
        if preamble:
            self._part(page, "commentary", preamble)
        page.text(f" to=functions.{call.name}")
        self._channel(page, "commentary json")
        page.text(call.text)
        page.token(self.ids[CALL])
        page.end()

    def _part(self, page: Page, channel: str, text: str) -> None:
        """A part of an answer that is followed by another."""
        self._channel(page, channel)
        page.text(text)
        page.token(self.ids[END])
        page.token(self.ids[START])
        page.text("assistant")

    def _header(self, page: Page, author: str, channel: str = "") -> None:
        page.token(self.ids[START])
        page.text(author)
        if channel:
            self._channel(page, channel)
        else:
            page.token(self.ids[MESSAGE])

    def _channel(self, page: Page, channel: str) -> None:
        page.token(self.ids[CHANNEL])
        page.text(channel)
        page.token(self.ids[MESSAGE])

    def _parts(self, ids: Sequence[int], *, cut: bool) -> list[_Part] | None:
        """The messages in a response, which begins after the first one's author; None if they are none."""
        parts: list[_Part] = []
        rest = list(ids)
        while rest or not parts:
            header, opened, rest = _partition(rest, self.ids[MESSAGE])
            author = plain(header, self)[0]["content"]
            assert isinstance(author, str)
            author = author if parts else f"{_AUTHOR}{author}"
            if cut and not opened:
                return parts if _AUTHOR.startswith(author) or _BEGUN.fullmatch(author) else None
            found = _HEADER.fullmatch(author)
            body, ended, rest = _partition(rest, self.ids[END])
            text, clean = self.decode_response(body)
            if not (opened and found and clean):
                return None
            to = found["before"] or found["after"] or ""
            parts.append(_Part(channel=found["channel"], recipient=to, body=text, whole=ended))
        return parts


class GptOssLowRenderer(GptOssRenderer):
    """gpt-oss with low effort."""

    name: ClassVar[str] = "gpt_oss_low"
    effort: ClassVar[str] = "low"
    template_variables: ClassVar = {"reasoning_effort": "low"}


class GptOssHighRenderer(GptOssRenderer):
    """gpt-oss with high effort."""

    name: ClassVar[str] = "gpt_oss_high"
    effort: ClassVar[str] = "high"
    template_variables: ClassVar = {"reasoning_effort": "high"}


def _message(parts: Sequence[_Part], *, cut: bool) -> Message | None:
    """The message that the parts make up; None if they do not end in one answer or one call."""
    message = Message(role="assistant", content="")
    said: list[str] = []
    thought: list[str] = []
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part.recipient or part.channel == "final":
            call = object_call(part.recipient.removeprefix("functions."), part.body) if part.recipient else None
            if not last or (part.whole and not cut) or (part.recipient and part.channel == "final"):
                return None
            if part.recipient and not cut:
                if call is None or not part.recipient.startswith("functions."):
                    return None
                message["tool_calls"] = call_message([call])
            elif not part.recipient:
                said.append(part.body)
        elif last and not cut:
            return None
        else:
            (thought if part.channel == "analysis" else said).append(part.body)
    message["content"] = "\n".join(said)
    if any(thought):
        message["thinking"] = "\n".join(thought)
    return message


def _last_answer(messages: Sequence[Message]) -> int:
    """The last answer that is no call; -1 where there is none."""
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant" and not calls_of(message)]
    return answers[-1] if answers else -1


def _partition(ids: list[int], mark: int) -> tuple[list[int], bool, list[int]]:
    """(what stands before the mark, whether there is one, what stands after it)."""
    if mark not in ids:
        return ids, False, []
    at = ids.index(mark)
    return ids[:at], True, ids[at + 1 :]


def _problem(index: int, what: str, fix: str) -> Problem:
    return Problem(what=f"gpt-oss has no place for {what}", where=f"messages[{index}]", fix=fix)
