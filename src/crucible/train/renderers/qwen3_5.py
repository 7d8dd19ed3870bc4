"""How do the Qwen3.5 models write a conversation? As Qwen3, but the prompt opens the reasoning, and calls are XML.

Source: the chat template of Qwen/Qwen3.5-4B.
"""

from collections.abc import Sequence
from typing import ClassVar

from crucible.errors import Problem, RendererError
from crucible.train.messages import Message, Tool, ToolCall, as_json, calls_of, text_of
from crucible.train.renderers.chatml import END, START
from crucible.train.renderers.family import PROBES
from crucible.train.renderers.page import Page
from crucible.train.renderers.qwen3 import (
    ASKED,
    CALLED,
    NO_REASONING,
    OPEN_REASONING,
    WITH_A_CALL,
    Qwen3Renderer,
)
from crucible.train.renderers.tagged import ReadCall, function_call

_TOOLS_BEFORE = "# Tools\n\nYou have access to the following functions:\n\n<tools>"
_TOOLS_AFTER = (
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested "
    "within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, "
    "but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current knowledge and do "
    "not tell the user about function calls\n</IMPORTANT>"
)

_THOUGHT = Message(role="assistant", content="Hi there.", thinking="A greeting.")
_CALLED: Message = {**CALLED, "thinking": "It is there."}
_SEEN = Message(role="tool", content="Seen.")


class Qwen35Renderer(Qwen3Renderer):
    """Qwen3.5's models with thinking on: the prompt opens the reasoning, which history leaves out.

    An answer after the last question keeps its block of reasoning, be it empty. White space at the ends of a content
    is taken off, as in the template. Where an answer without reasoning is the last message, its empty block's two line
    breaks are two tokens, the prompt's and the model's; the template's text, tokenised at once, has one for both. So
    an answer without reasoning is not as it was generated once it is history, even while tools are being called.
    """

    name: ClassVar[str] = "qwen3_5"
    probes: ClassVar[Sequence[tuple[list[Message], bool]]] = (
        ([ASKED], True),
        ([ASKED, _THOUGHT], False),
        ([ASKED, _THOUGHT, ASKED], True),
        ([ASKED, _CALLED, _SEEN], True),
    )
    opening: ClassVar[str] = OPEN_REASONING
    gap: ClassVar[str] = "\n\n"
    frames_each_step: ClassVar[bool] = True

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        super().refuse_malformed(messages, tools)
        problems = [
            Problem(
                what=f"{self.name} has no place for a system message after the first message",
                where=f"messages[{index}]",
                fix="Put all of it into the first message",
            )
            for index, message in enumerate(messages)
            if index and message["role"] == "system"
        ]
        if messages[0]["role"] == "tool":
            problems.append(Problem(what="a conversation cannot begin with a tool's result", where="messages[0]"))
        if self.last_query(messages) is None:
            problems.append(Problem(what=f"{self.name} needs a message by the user", fix="Put the question into one"))
        problems += [
            problem
            for index, message in enumerate(messages)
            for call in calls_of(message)
            for problem in _unwritable(call, f"messages[{index}]")
        ]
        if problems:
            raise RendererError(problems)

    def said(self, message: Message) -> str:
        return text_of(message).strip()

    def parts(self, message: Message) -> tuple[str, str]:
        thinking, content = super().parts(message)
        return thinking.strip(), content

    def preamble(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        system = messages[0]["role"] == "system"
        if not system and not tools:
            return 0
        page.token(self.ids[START])
        page.text("system\n")
        said = self.said(messages[0]) if system else ""
        if tools:
            declared = "".join(f"\n{as_json(tool)}" for tool in tools)
            page.text(_TOOLS_BEFORE + declared + _TOOLS_AFTER + ("\n\n" if said else ""))
        if system:
            page.said(0, said, stop=self.ids[END])
        else:
            page.token(self.ids[END])
        page.text("\n")
        return int(system)

    def written_call(self, call: ToolCall) -> str:
        arguments = call.object or {}
        parameters = [f"<parameter={name}>\n{_value(value)}\n</parameter>\n" for name, value in arguments.items()]
        return f"<function={call.name}>\n{''.join(parameters)}</function>"

    @property
    def read_call(self) -> ReadCall:
        return function_call


class Qwen35DisableThinkingRenderer(Qwen35Renderer):
    """Qwen3.5's models with thinking off: the prompt ends in an empty block of reasoning, history has none."""

    name: ClassVar[str] = "qwen3_5_disable_thinking"
    probes: ClassVar = (*PROBES, WITH_A_CALL)
    template_variables: ClassVar = {"enable_thinking": False}
    writes_thinking: ClassVar[bool] = False
    opening: ClassVar[str] = NO_REASONING


class Qwen35KeepThinkingRenderer(Qwen35Renderer):
    """Qwen3.5's models with thinking on and kept: every answer stays as it was generated.

    It differs from the model's template on purpose, which strips history: here prompts extend what was sampled, so
    that one example trains a whole conversation. Sample from the result with this renderer too.
    """

    name: ClassVar[str] = "qwen3_5_keep_thinking"
    probes: ClassVar = (*Qwen35Renderer.probes[:2], Qwen35Renderer.probes[3])
    keeps_history: ClassVar[bool] = True


def _value(value: object) -> str:
    """An argument as the template writes it: a text as it is, a number, True or None as Python shows it, else JSON."""
    return str(value) if value is None or isinstance(value, str | int | float) else as_json(value)


def _unwritable(call: ToolCall, where: str) -> list[Problem]:
    names = [call.name, *(call.object or {})]
    return [
        Problem(
            what="a call has a name that no tag can hold",
            where=where,
            given=repr(name),
            fix="Use letters, digits and underscores",
        )
        for name in names
        if not name or ">" in name or "\n" in name
    ]
