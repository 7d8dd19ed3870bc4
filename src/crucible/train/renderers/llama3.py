"""How do the Llama 3 models write a conversation? Roles between header tokens, and from 3.1 on calls as bare JSON.

Source: the chat templates of meta-llama/Meta-Llama-3-8B-Instruct, Llama-3.1-8B-Instruct (Llama-3.3-70B-Instruct has the
same) and Llama-3.2-3B-Instruct.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

from crucible.errors import Problem, RendererError
from crucible.ports.tokenizer import TODAY
from crucible.train.messages import Message, Tool, ToolCall, as_json, call_message, calls_of, text_of
from crucible.train.renderers.family import PROBES, FamilyRenderer, plain
from crucible.train.renderers.page import Page
from crucible.train.renderers.renderer import ParsedResponse
from crucible.train.renderers.turns import text_beside_calls, turns_from
from crucible.train.strict_json import read_json

_BEGIN, _HEADER, _HEADER_END = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"
_END, _END_OF_MESSAGE, _PYTHON = "<|eot_id|>", "<|eom_id|>", "<|python_tag|>"

_DATES = f"Cutting Knowledge Date: December 2023\nToday Date: {TODAY:%d %b %Y}\n\n"
_TOOLS_BEFORE = (
    "Given the following functions, please respond with a JSON for a function call "
    "with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)

_BEGUN_CALL = re.compile(
    r'\s*\{\s*("type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"(?:[^"\\]|\\.)+"\s*,\s*"parameters"\s*:'
)
_BUILT_IN_CALL = re.compile(r'\s*(\w+)\.call\((\w+="[^"]*"(?:, \w+="[^"]*")*)\)\s*')
_BUILT_IN_ARGUMENT = re.compile(r'(\w+)="([^"]*)"')


class Llama3Renderer(FamilyRenderer):
    """Llama 3: no tools, and no system message but the one given. White space around a message is left out."""

    name: ClassVar[str] = "llama3"
    controls: ClassVar[tuple[str, ...]] = (_END, _HEADER, _HEADER_END, _BEGIN)
    roles: ClassVar[frozenset[str]] = frozenset({"system", "user", "assistant"})

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        page.token(self.ids[_BEGIN])
        for index in range(self._preamble(page, messages, tools), len(messages)):
            message, stop = messages[index], self.ids[_END]
            role = message["role"]
            self._header(page, "ipython" if role == "tool" else role)
            if role == "assistant":
                page.begin(index)
                page.text(_answer(message))
                page.token(stop)
                page.end()
            elif role == "tool":
                page.said(index, as_json(text_of(message)), stop=stop)
            else:
                page.said(index, text_of(message).strip(), stop=stop)
        if prompt:
            self._header(page, "assistant")

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        del cut
        return plain(ids, self)

    def _preamble(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        """What stands before the first message; how many messages that took."""
        del page, messages, tools
        return 0

    def _header(self, page: Page, role: str) -> None:
        page.token(self.ids[_HEADER])
        page.text(role)
        page.token(self.ids[_HEADER_END])
        page.text("\n\n")


_CALLED: list[Message] = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="Hello?"),
    Message(role="assistant", content="", tool_calls=call_message([ToolCall(name="look", arguments={"at": [1]})])),
    Message(role="tool", content='"Nothing."'),
]


class Llama31Renderer(Llama3Renderer):
    """Llama 3.1 and 3.3: every conversation begins with a system message that names two dates; tools are declared in
    the first user message, called as bare JSON, one at a time, and answer as `ipython`.

    Calls stand for the whole answer: what the template would drop without a word (text beside a call) is refused.
    The built-in tools of the template's `builtin_tools` are never declared, so `<|python_tag|>` and `<|eom_id|>` are
    not written; both are read, for a model that is told `Environment: ipython` may use them. As Meta's own parser
    has it, what follows the tag is a call: JSON, `name.call(argument="...")`, or Python code for `code_interpreter`.
    An answer that is nothing but JSON of `name` and `parameters` is read as a call, whatever was meant.
    """

    name: ClassVar[str] = "llama3_1"
    controls: ClassVar[tuple[str, ...]] = (_END, _HEADER, _HEADER_END, _BEGIN, _END_OF_MESSAGE, _PYTHON)
    roles: ClassVar[frozenset[str]] = FamilyRenderer.roles
    probes: ClassVar = (*PROBES, (_CALLED, True))
    writes_tools: ClassVar[bool] = True
    writes_calls: ClassVar[bool] = True

    @property
    def stop_sequences(self) -> list[int]:
        """The end of a turn, the end of a message that awaits a tool's result, the model's other EOS ids."""
        stop, *others = super().stop_sequences
        message = self.ids[_END_OF_MESSAGE]
        return [stop, message, *(token for token in others if token != message)]

    def parse_response(self, tokens: Sequence[int]) -> ParsedResponse:
        """Either end of a turn or of a message is the convention's own."""
        ids = [int(token) for token in tokens]
        if ids and ids[-1] == self.ids[_END_OF_MESSAGE]:
            ids[-1] = self.ids[_END]
        return super().parse_response(ids)

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        tagged = bool(ids) and ids[0] == self.ids[_PYTHON]
        text, clean = self.decode_response(ids[1:] if tagged else ids)
        call = _call_in(text)
        broken = call is None and _BEGUN_CALL.match(text) is not None
        if call is None and tagged and not broken and not cut:
            call = _built_in_call(text)
        if call is None:
            return Message(role="assistant", content=text), clean and (cut or not broken)
        return Message(role="assistant", content="", tool_calls=call_message([call])), clean

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        """As for every family; and refuse calls and tools that the template would not write."""
        super().refuse_malformed(messages, tools)
        problems = [*_unwritable(messages, tools), *text_beside_calls(messages)]
        if problems:
            raise RendererError(problems)

    def _preamble(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool]) -> int:
        stop, taken = self.ids[_END], 0
        self._header(page, "system")
        page.text(("Environment: ipython\n" if tools else "") + _DATES)
        if messages[0]["role"] == "system":
            page.said(0, text_of(messages[0]).strip(), stop=stop)
            taken = 1
        else:
            page.token(stop)
        if tools:
            self._header(page, "user")
            page.text(_TOOLS_BEFORE + "".join(_declared(tool) for tool in tools))
            page.said(taken, text_of(messages[taken]).strip(), stop=stop)
            taken += 1
        return taken

    def _disagreement(self) -> str | None:
        return super()._disagreement() or self._other_generation()

    def _other_generation(self) -> str | None:
        """Llama 3.2's template writes the same under the date it is given here, but knows no built-in tools."""
        if self.tokenizer.chat_template is None:
            return None
        said, _ = self.probes[0]
        without = self.tokenizer.apply_chat_template(said)
        if self.tokenizer.apply_chat_template(said, builtin_tools=["brave_search"]) != without:
            return None
        return "its own chat template knows no built-in tools, which those of 3.1 and 3.3 do"


class Llama32Renderer(Llama31Renderer):
    """Llama 3.2: writes as 3.1 does. Its template asks for today's date, which crucible always tells as one day."""

    name: ClassVar[str] = "llama3_2"

    def _other_generation(self) -> str | None:
        return None


def _answer(message: Message) -> str:
    """What the assistant says, or the call it makes instead."""
    for call in calls_of(message):
        return f'{{"name": {as_json(call.name)}, "parameters": {as_json(call.object)}}}'
    return text_of(message).strip()


def _declared(tool: Tool) -> str:
    return json.dumps(tool, ensure_ascii=False, indent=4) + "\n\n"


def _call_in(text: str) -> ToolCall | None:
    """The call that the text is; None if it is something else."""
    if _BEGUN_CALL.match(text) is None:
        return None
    try:
        fields: Mapping[str, Any] = read_json(text)
    except ValueError:
        return None
    if not fields.keys() <= {"type", "name", "parameters"}:
        return None
    name, parameters = fields.get("name"), fields.get("parameters")
    if not isinstance(name, str) or not name or not isinstance(parameters, dict):
        return None
    return ToolCall(name=name, arguments=cast("Mapping[str, Any]", parameters))


def _built_in_call(text: str) -> ToolCall:
    found = _BUILT_IN_CALL.fullmatch(text)
    if found is None:
        return ToolCall(name="code_interpreter", arguments={"code": text})
    return ToolCall(name=found.group(1), arguments=dict(_BUILT_IN_ARGUMENT.findall(found.group(2))))


def _unwritable(messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[Problem]:
    first = turns_from(messages)
    if tools and (len(messages) <= first or messages[first]["role"] != "user"):
        yield Problem(
            what="tools are declared in the first message by the user, and the conversation does not begin with one",
            where=f"messages[{first}]",
            fix="Begin with the user's message, or render without tools",
        )
    for index, message in enumerate(messages):
        count = len(calls_of(message))
        if count > 1:
            yield Problem(
                what="Llama 3 calls one tool at a time",
                where=f"messages[{index}]",
                given=f"{count} calls",
                fix="Make each call a message of its own, followed by its result",
            )
