"""How do DeepSeek V3 and V3.1 write a conversation? Full-width marks, the system's words before all else.

Source: the chat templates of deepseek-ai/DeepSeek-V3 and DeepSeek-V3.1, and the latter's model card.
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from crucible.errors import Problem, RendererError
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message, Tool, ToolCall, calls_of, text_of, thinking_of
from crucible.train.renderers.family import PROBES
from crucible.train.renderers.marked import MarkedRenderer, misplaced_results, object_call
from crucible.train.renderers.page import Page

BEGIN, END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
CALLS, CALL, SEPARATOR = "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
CALL_END, CALLS_END = "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"
OUTPUTS, OUTPUT = "<｜tool▁outputs▁begin｜>", "<｜tool▁output▁begin｜>"
OUTPUT_END, OUTPUTS_END = "<｜tool▁output▁end｜>", "<｜tool▁outputs▁end｜>"
THINK, THINK_END = "<think>", "</think>"

_MARKS = (USER, ASSISTANT, CALLS, CALL, SEPARATOR, CALL_END, CALLS_END, OUTPUTS, OUTPUT, OUTPUT_END, OUTPUTS_END)
_V3_CALL = re.compile(r"\s*([^\n]+)\n```json\n(.*)\n```\s*", re.DOTALL)


class DeepSeekRenderer(MarkedRenderer):
    """What V3 and V3.1 have in common. Tools are not declared: their templates have no place for it.

    It differs from the templates on purpose: a system message that is not at the start is refused, which they put
    before all that was said, as if the answers up to there had been given under it.
    """

    controls: ClassVar[tuple[str, ...]] = (END, BEGIN, *_MARKS)

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        del tools
        page.token(self.ids[BEGIN])
        start = _systems(messages)
        for index in range(start):
            page.text("\n\n" if index else "")
            page.said(index, text_of(messages[index]))
        for index in range(start, len(messages)):
            role = messages[index]["role"]
            if role == "assistant":
                self.write_answer(page, messages, index)
            elif role == "tool":
                self.write_result(page, messages, index)
            else:
                page.token(self.ids[USER])
                page.said(index, text_of(messages[index]))
        if prompt:
            self.write_opening(page, messages[-1]["role"])

    @abstractmethod
    def write_answer(self, page: Page, messages: Sequence[Message], index: int) -> None:
        """Write the assistant's message."""

    @abstractmethod
    def write_result(self, page: Page, messages: Sequence[Message], index: int) -> None:
        """Write a tool's result."""

    @abstractmethod
    def write_opening(self, page: Page, after: str) -> None:
        """Write what stands between a message of that role and an answer that is sampled."""

    def shape_problems(self, messages: Sequence[Message]) -> list[Problem]:
        return misplaced_results(messages) + [
            Problem(
                what=f"{self.name} has no place for a system message later on",
                where=f"messages[{index}]",
                fix="Put it at the start, or say it as the user",
            )
            for index in range(_systems(messages), len(messages))
            if messages[index]["role"] == "system"
        ]


class DeepSeekV3Renderer(DeepSeekRenderer):
    """DeepSeek V3, which does not reason.

    Two more differences from the template, whose handling of calls is broken (DeepSeek's later ones mended it so): all
    calls of a turn are closed and end it, and what is said before them is kept; the template closes them only after
    the second and further ones. And every run of results is framed, not the first alone.
    """

    name: ClassVar[str] = "deepseek_v3"
    call_marks: ClassVar[tuple[str, ...]] = (CALLS, CALL, SEPARATOR, CALL_END, CALLS_END)
    writes_calls: ClassVar[bool] = True

    def write_answer(self, page: Page, messages: Sequence[Message], index: int) -> None:
        self.write_opening(page, messages[index - 1]["role"] if index else "")
        page.begin(index)
        page.text(text_of(messages[index]))
        calls = calls_of(messages[index])
        for place, call in enumerate(calls):
            page.text("\n" if place else "")
            for mark in (CALL,) if place else (CALLS, CALL):
                page.token(self.ids[mark])
            page.text("function")
            page.token(self.ids[SEPARATOR])
            page.text(f"{call.name}\n```json\n{call.text}\n```")
            page.token(self.ids[CALL_END])
        if calls:
            page.token(self.ids[CALLS_END])
        page.token(self.ids[END])
        page.end()

    def write_result(self, page: Page, messages: Sequence[Message], index: int) -> None:
        first = index == 0 or messages[index - 1]["role"] != "tool"
        last = index == len(messages) - 1 or messages[index + 1]["role"] != "tool"
        if first:
            page.token(self.ids[OUTPUTS])
        else:
            page.text("\n")
        page.token(self.ids[OUTPUT])
        page.said(index, text_of(messages[index]), stop=self.ids[OUTPUT_END])
        if last:
            page.token(self.ids[OUTPUTS_END])

    def write_opening(self, page: Page, after: str) -> None:
        if after != "tool":
            page.token(self.ids[ASSISTANT])

    def read_call(self, head: str, body: str) -> ToolCall | None:
        found = _V3_CALL.fullmatch(body)
        return object_call(found.group(1), found.group(2)) if found and head.strip() == "function" else None


class DeepSeekV31Renderer(DeepSeekRenderer):
    """DeepSeek V3.1 that does not reason: each answer to the user begins after a closed `</think>`.

    Templates differ in whether a `<think>` stands before it: DeepSeek's own has none, llama.cpp's has one. The model's
    own decides; where it has none, it is as in llama.cpp's, with which this was compared. Reasoning that stands in an
    answer's content is refused, which both drop.
    """

    name: ClassVar[str] = "deepseek_v3_1"
    tags: ClassVar[tuple[str, ...]] = (THINK, THINK_END)
    call_marks: ClassVar[tuple[str, ...]] = (CALLS, CALL, SEPARATOR, CALL_END, CALLS_END)
    template_variables: ClassVar = {"thinking": False}
    writes_calls: ClassVar[bool] = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        shut_only = f"{ASSISTANT}{THINK_END}" in (tokenizer.chat_template or "")
        self._shut = (THINK_END,) if shut_only else (THINK, THINK_END)
        super().__init__(tokenizer)

    def write_answer(self, page: Page, messages: Sequence[Message], index: int) -> None:
        self.write_shut(page, messages[index - 1]["role"] if index else "")
        page.begin(index)
        page.text(text_of(messages[index]))
        calls = calls_of(messages[index])
        if calls:
            page.token(self.ids[CALLS])
        for call in calls:
            page.token(self.ids[CALL])
            page.text(call.name)
            page.token(self.ids[SEPARATOR])
            page.text(call.text)
            page.token(self.ids[CALL_END])
        if calls:
            page.token(self.ids[CALLS_END])
        page.token(self.ids[END])
        page.end()

    def write_result(self, page: Page, messages: Sequence[Message], index: int) -> None:
        page.token(self.ids[OUTPUT])
        page.said(index, text_of(messages[index]), stop=self.ids[OUTPUT_END])

    def write_opening(self, page: Page, after: str) -> None:
        self.write_shut(page, after)

    def write_shut(self, page: Page, after: str) -> None:
        """Write the header of an answer without reasoning: as in the template, after the user's words alone."""
        if after == "user":
            for mark in (ASSISTANT, *self._shut):
                page.token(self.ids[mark])

    def shape_problems(self, messages: Sequence[Message]) -> list[Problem]:
        return super().shape_problems(messages) + [
            Problem(
                what=f"{self.name} has no place for reasoning in the content",
                where=f"messages[{index}]",
                fix="Take it out, or use renderer=deepseek_v3_1_thinking",
            )
            for index, message in enumerate(messages)
            if message["role"] == "assistant" and (THINK in text_of(message) or THINK_END in text_of(message))
        ]

    def read_call(self, head: str, body: str) -> ToolCall | None:
        return object_call(head.strip(), body)


class DeepSeekV31ThinkingRenderer(DeepSeekV31Renderer):
    """DeepSeek V3.1 that reasons: the prompt opens `<think>`, the answer closes it; history is written as without.

    It differs from the template on purpose: the last answer has its reasoning, which the template leaves out even where
    it is to be trained. Tools are refused, which DeepSeek documents for the other mode alone; so is an answer to
    anything but the user's words, for which the prompt would open no reasoning.
    """

    name: ClassVar[str] = "deepseek_v3_1_thinking"
    call_marks: ClassVar[tuple[str, ...]] = ()
    roles: ClassVar[frozenset[str]] = frozenset({"system", "user", "assistant"})
    template_variables: ClassVar = {"thinking": True}
    probes: ClassVar = tuple((messages, prompt) for messages, prompt in PROBES if prompt)
    writes_calls: ClassVar[bool] = False
    writes_thinking: ClassVar[bool] = True

    @property
    def has_extension_property(self) -> bool:
        """No: reasoning is stripped from history."""
        return False

    def write_answer(self, page: Page, messages: Sequence[Message], index: int) -> None:
        thinking, content = _parts(messages[index])
        last = index == len(messages) - 1
        if last:
            self.write_opening(page, "user")
        else:
            page.history(index)
            self.write_shut(page, "user")
        page.begin(index)
        if last:
            page.text(thinking)
            page.token(self.ids[THINK_END])
        page.text(content)
        page.token(self.ids[END])
        page.end()

    def write_opening(self, page: Page, after: str) -> None:
        if after != "user":
            raise RendererError.of(
                f"{self.name} answers nothing but the user's words",
                where="messages",
                given=f"the last message's role is {after}",
                fix="End the conversation with a user's message",
            )
        page.token(self.ids[ASSISTANT])
        page.token(self.ids[THINK])

    def shape_problems(self, messages: Sequence[Message]) -> list[Problem]:
        problems = DeepSeekRenderer.shape_problems(self, messages)
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            if index == 0 or messages[index - 1]["role"] != "user":
                what, fix = "an answer to anything but the user's words", "Have each answer follow a user's message"
            elif any(tag in part for part in _parts(message) for tag in (THINK, THINK_END)):
                what, fix = "reasoning inside reasoning, or twice", f"Take {THINK} and {THINK_END} out of it"
            else:
                continue
            problems.append(Problem(what=f"{self.name} has no place for {what}", where=f"messages[{index}]", fix=fix))
        return problems

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        closed = self.ids[THINK_END]
        at = list(ids).index(closed) if closed in ids else len(ids)
        inside, whole = super().read(ids[:at], cut=cut)
        if at == len(ids):
            open_yet = cut and whole
            return Message(role="assistant", content="", thinking=text_of(inside)) if open_yet else inside, open_yet
        message, clean = super().read(ids[at + 1 :], cut=cut)
        if inside["content"]:
            message["thinking"] = text_of(inside)
        return message, whole and clean


def _systems(messages: Sequence[Message]) -> int:
    """How many system messages stand at the start."""
    return next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))


def _parts(message: Message) -> tuple[str, str]:
    """(reasoning, content) of an answer; reasoning that stands in the content is taken out of it, to the letter."""
    thinking, content = thinking_of(message), text_of(message)
    if thinking or THINK_END not in content:
        return thinking, content
    inside, _, after = content.partition(THINK_END)
    return inside.removeprefix(THINK), after
