"""How do the Qwen3 models write a conversation? ChatML with a block of reasoning, and tools as JSON in XML tags.

Source: the chat templates of Qwen/Qwen3-8B (hybrid) and Qwen/Qwen3-30B-A3B-Instruct-2507.
"""

from collections.abc import Sequence
from typing import ClassVar

from crucible.errors import RendererError
from crucible.train.messages import Message, Tool, ToolCall, as_json, calls_of, text_of, thinking_of
from crucible.train.renderers.chatml import END, START
from crucible.train.renderers.family import PROBES, FamilyRenderer
from crucible.train.renderers.page import Page
from crucible.train.renderers.tagged import ReadCall, json_call, message_in, split_thinking

OPEN_REASONING, NO_REASONING = "<think>\n", "<think>\n\n</think>\n\n"

ASKED = Message(role="user", content="Hello?")
CALLED = Message(
    role="assistant", content="", tool_calls=[{"function": {"name": "look", "arguments": {"at": "it", "now": True}}}]
)
WITH_A_CALL: tuple[list[Message], bool] = ([ASKED, CALLED, Message(role="tool", content="Seen.")], True)
"""A probe that tells the way a family calls tools from another's, and from none."""

_TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


class Qwen3InstructRenderer(FamilyRenderer):
    """Qwen3's instruct models of 2507, which never reason.

    opening: what the prompt ends in after the assistant's header: the answer goes on from there.
    gap: what stands between an answer's content and its calls.
    """

    name: ClassVar[str] = "qwen3_instruct"
    controls: ClassVar[tuple[str, ...]] = (END, START)
    probes: ClassVar[Sequence[tuple[list[Message], bool]]] = (*PROBES, WITH_A_CALL)
    writes_tools: ClassVar[bool] = True
    writes_calls: ClassVar[bool] = True
    opening: ClassVar[str] = ""
    gap: ClassVar[str] = "\n"

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        start, end = self.ids[START], self.ids[END]
        rest = self.preamble(page, messages, tools)
        found = self.last_query(messages)
        query = len(messages) - 1 if found is None else found
        for index, message in enumerate(messages):
            if index < rest:
                continue
            role = message["role"]
            if role == "tool":
                self._result(page, messages, index)
                continue
            page.token(start)
            page.text(f"{role}\n")
            if role == "assistant":
                self.answer(page, messages, index, query)
            else:
                page.said(index, self.said(message), stop=end)
            page.text("\n")
        if prompt:
            page.token(start)
            page.text(f"assistant\n{self.opening}")

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        text, clean = self.decode_response(ids)
        message, whole = message_in(
            text,
            thinks=self.writes_thinking,
            cut=cut,
            read=self.read_call,
            opened=self.opening == OPEN_REASONING,
            gap=self.gap,
        )
        return message, whole and clean

    def said(self, message: Message) -> str:
        """A message's content as the family writes it."""
        return text_of(message)

    def written_call(self, call: ToolCall) -> str:
        """A call as the family writes it, without its tags."""
        return f'{{"name": {as_json(call.name)}, "arguments": {call.text}}}'

    @property
    def read_call(self) -> ReadCall:
        """Reads a call as the family writes it."""
        return json_call

    def preamble(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        """Write the system message with the tools, or alone; how many messages that took."""
        system = messages[0]["role"] == "system"
        if not system and not tools:
            return 0
        page.token(self.ids[START])
        page.text("system\n")
        if system:
            page.said(0, self.said(messages[0]), stop=None if tools else self.ids[END])
        if tools:
            declared = "".join(f"\n{as_json(tool)}" for tool in tools)
            page.text(("\n\n" if system else "") + _TOOLS_BEFORE + declared + _TOOLS_AFTER)
            page.token(self.ids[END])
        page.text("\n")
        return int(system)

    def last_query(self, messages: Sequence[Message]) -> int | None:
        """The last message by the user that is no tool's result."""
        for index in range(len(messages) - 1, -1, -1):
            if messages[index]["role"] == "user":
                said = self.said(messages[index])
                if not (said.startswith("<tool_response>") and said.endswith("</tool_response>")):
                    return index
        return None

    def answer(self, page: Page, messages: Sequence[Message], index: int, query: int) -> None:
        """Write the assistant's turn after its header: its own part is what a model would generate there."""
        del query
        message = messages[index]
        page.begin(index)
        page.text(self.said(message))
        self.calls(page, message, after=self.said(message))
        page.end()

    def calls(self, page: Page, message: Message, *, after: str) -> None:
        """Write an answer's calls, and what ends its turn. after: the content before them."""
        calls = [f"<tool_call>\n{self.written_call(call)}\n</tool_call>" for call in calls_of(message)]
        page.text((self.gap if after and calls else "") + "\n".join(calls))
        page.token(self.ids[END])

    def _result(self, page: Page, messages: Sequence[Message], index: int) -> None:
        """A tool's result; those of one turn stand together in one message by the user."""
        if index == 0 or messages[index - 1]["role"] != "tool":
            page.token(self.ids[START])
            page.text("user")
        page.text("\n<tool_response>\n")
        page.said(index, self.said(messages[index]))
        page.text("\n</tool_response>")
        if index == len(messages) - 1 or messages[index + 1]["role"] != "tool":
            page.token(self.ids[END])
            page.text("\n")


class Qwen3Renderer(Qwen3InstructRenderer):
    """Qwen3's hybrid models with thinking on: an answer begins with its reasoning, which history leaves out.

    As in the template, an answer after the last question keeps its reasoning while tools are being called; an answer
    that is already history has none. So each turn that is trained needs the conversation to end with it, unless it
    called tools after reasoning.

    keeps_history: whether every answer keeps its block. frames_each_step: whether all those after the last question do,
    be it empty; else those of them that reasoned, and the last.
    """

    name: ClassVar[str] = "qwen3"
    tags: ClassVar[tuple[str, ...]] = ("<think>", "</think>")
    writes_thinking: ClassVar[bool] = True
    keeps_history: ClassVar[bool] = False
    frames_each_step: ClassVar[bool] = False

    @property
    def has_extension_property(self) -> bool:
        """No, where reasoning is stripped from history."""
        return self.keeps_history

    @property
    def reasoning_end(self) -> str:
        """See `Renderer`."""
        return self.tags[1] if self.writes_thinking else ""

    def parts(self, message: Message) -> tuple[str, str]:
        """(reasoning, content) of an answer as the family writes them."""
        return split_thinking(thinking_of(message), self.said(message))

    def answer(self, page: Page, messages: Sequence[Message], index: int, query: int) -> None:
        message = messages[index]
        thinking, content = self.parts(message)
        if thinking and not self.writes_thinking:
            raise RendererError.of(
                f"{self.name} has no place for reasoning in the content",
                where=f"messages[{index}]",
                fix="Take the <think> block out of it, or use the renderer with thinking on",
            )
        present = index == len(messages) - 1 or bool(thinking)
        framed = self.keeps_history or (index > query and (present or self.frames_each_step))
        block = "<think>\n{}\n</think>\n\n".format(thinking.strip("\n"))
        shown = block + content.lstrip("\n") if framed else content
        # An empty block that a prompt has opened is tokenised otherwise where it is history: as one text.
        if self.keeps_history or (framed and (present or self.opening != OPEN_REASONING)):
            page.text(self.opening)
            shown = shown.removeprefix(self.opening)
        else:
            page.history(index)
        page.begin(index)
        page.text(shown)
        self.calls(page, message, after=content)
        page.end()


class Qwen3DisableThinkingRenderer(Qwen3Renderer):
    """Qwen3's hybrid models with thinking off: the prompt ends in an empty block of reasoning, history has none."""

    name: ClassVar[str] = "qwen3_disable_thinking"
    template_variables: ClassVar = {"enable_thinking": False}
    writes_thinking: ClassVar[bool] = False
    opening: ClassVar[str] = NO_REASONING


class Qwen3KeepThinkingRenderer(Qwen3Renderer):
    """Qwen3's hybrid models with thinking on and kept: every answer stays as it was generated.

    It differs from the model's template on purpose, which strips history: here prompts extend what was sampled, so
    that one example trains a whole conversation. Sample from the result with this renderer too.
    """

    name: ClassVar[str] = "qwen3_keep_thinking"
    probes: ClassVar = PROBES[:2]
    keeps_history: ClassVar[bool] = True
