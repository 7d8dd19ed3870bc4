"""How does Kimi K2 write a conversation? Unverified: its tokenizer is nowhere to be had for us.

Source: the chat template of moonshotai/Kimi-K2-Instruct.
"""

import re
from collections.abc import Sequence
from typing import ClassVar, NoReturn

from crucible.errors import Problem, RendererError
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message, Tool, ToolCall, as_json, calls_of, text_of
from crucible.train.renderers.marked import MarkedRenderer, object_call
from crucible.train.renderers.page import Page

END, MIDDLE = "<|im_end|>", "<|im_middle|>"
USER, ASSISTANT, SYSTEM = "<|im_user|>", "<|im_assistant|>", "<|im_system|>"
CALLS, CALL, ARGUMENTS = "<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>"
CALL_END, CALLS_END = "<|tool_call_end|>", "<|tool_calls_section_end|>"

_DEFAULT_SYSTEM = "You are Kimi, an AI assistant created by Moonshot AI."
_CALL_ID = re.compile(r"functions\.(.+):\d+")


class KimiK2UnverifiedRenderer(MarkedRenderer):
    """Kimi K2's instruct models, which do not reason, as their template's text reads.

    The text was compared with the template's; the tokens never were, for want of the tokenizer. Where the model has a
    template, a few short conversations are compared when this is built, as for every family.

    Calls are counted through the conversation, and results are given to them in their order, whatever ids they had.
    """

    name: ClassVar[str] = "kimi_k2_unverified"
    verified: ClassVar[bool] = False
    call_marks: ClassVar[tuple[str, ...]] = (CALLS, CALL, ARGUMENTS, CALL_END, CALLS_END)
    controls: ClassVar[tuple[str, ...]] = (END, MIDDLE, USER, ASSISTANT, SYSTEM, *call_marks)
    roles: ClassVar[frozenset[str]] = frozenset({"system", "developer", "user", "assistant", "tool"})
    writes_tools: ClassVar[bool] = True
    writes_calls: ClassVar[bool] = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        problem = self._disagreement()
        if problem is not None:
            raise RendererError.of(
                f"the renderer {self.name} does not fit this model: {problem}",
                where="renderer",
                given=self.name,
                fix="Use renderer=auto, which runs the model's own template",
            )

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        if tools:
            self._header(page, SYSTEM, "tool_declare")
            page.text(as_json(list(tools)))
            page.token(self.ids[END])
        if messages[0]["role"] != "system":
            self._header(page, SYSTEM, "system")
            page.text(_DEFAULT_SYSTEM)
            page.token(self.ids[END])
            page.text("\n")
        due: list[str] = []
        called = 0
        for index, message in enumerate(messages):
            name = message.get("name") or message["role"]
            if message["role"] == "assistant":
                idents = [f"functions.{call.name}:{called + i}" for i, call in enumerate(calls_of(message))]
                due, called = due + idents, called + len(idents)
                self._header(page, ASSISTANT, "assistant")
                page.begin(index)
                self._answer(page, message, idents)
                page.end()
            else:
                self._header(page, USER if message["role"] == "user" else SYSTEM, name)
                if message["role"] == "tool":
                    page.text(f"## Return of {due.pop(0)}\n")
                page.said(index, text_of(message), stop=self.ids[END])
        if prompt:
            self._header(page, ASSISTANT, "assistant")

    def shape_problems(self, messages: Sequence[Message]) -> list[Problem]:
        problems = super().shape_problems(messages)
        due = 0
        for index, message in enumerate(messages):
            due += len(calls_of(message)) - (message["role"] == "tool")
            if due < 0:
                what, fix = "a tool's result that answers no call", "Put the call before it"
            elif message["role"] == "assistant" and message.get("name", "assistant") != "assistant":
                what, fix = "an assistant with a name, since it samples answers without", "Take the name out"
            else:
                continue
            due = max(due, 0)
            problems.append(Problem(what=f"{self.name} has no place for {what}", where=f"messages[{index}]", fix=fix))
        return problems

    def read_call(self, head: str, body: str) -> ToolCall | None:
        found = _CALL_ID.fullmatch(head.strip())
        return object_call(found.group(1), body, ident=head.strip()) if found else None

    def _header(self, page: Page, role: str, name: str) -> None:
        page.token(self.ids[role])
        page.text(name)
        page.token(self.ids[MIDDLE])

    def _answer(self, page: Page, message: Message, idents: Sequence[str]) -> None:
        page.text(text_of(message))
        if idents:
            page.token(self.ids[CALLS])
        for call, ident in zip(calls_of(message), idents, strict=True):
            page.token(self.ids[CALL])
            page.text(ident)
            page.token(self.ids[ARGUMENTS])
            page.text(call.text)
            page.token(self.ids[CALL_END])
        if idents:
            page.token(self.ids[CALLS_END])
        page.token(self.ids[END])


class KimiK2Renderer(KimiK2UnverifiedRenderer):
    """The name that is refused until the renderer can be compared with the model's own tokens."""

    name: ClassVar[str] = "kimi_k2"

    def __init__(self, tokenizer: Tokenizer) -> NoReturn:
        del tokenizer
        raise RendererError.of(
            "Kimi K2's renderer was never compared with the model's own tokens, since no tokenizer of it could be had",
            where="renderer",
            given=self.name,
            fix="Compare a few prompts with the model's own tokenizer, then use renderer=kimi_k2_unverified",
        )
