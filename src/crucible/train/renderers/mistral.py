"""How do the Mistral models write a conversation? What the generations share that mistral-common numbers, and its v3.

Source: the chat template of mistralai/Mistral-Nemo-Instruct-2407; where it drops something, mistral-common 1.13, the
models' own encoder.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

from crucible.errors import Problem, RendererError
from crucible.train.messages import (
    Message,
    Tool,
    ToolCall,
    as_json,
    call_message,
    calls_of,
    function_of,
    shown,
    text_of,
)
from crucible.train.renderers.family import PROBES, FamilyRenderer
from crucible.train.renderers.page import Page
from crucible.train.renderers.turns import last_user, misplaced_system, out_of_turn, text_beside_calls, turns_from
from crucible.train.strict_json import read_json

_BEGIN, _END = "<s>", "</s>"
_ASK, _ASKED = "[INST]", "[/INST]"
_TOOLS, _TOOLS_END = "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"
_RESULT = "[TOOL_RESULTS]"
CALL, RESULT_END = "[TOOL_CALLS]", "[/TOOL_RESULTS]"

_ID_LENGTH = 9

_CALLED: list[Message] = [
    Message(role="user", content="Hello?"),
    Message(role="assistant", content="", tool_calls=call_message([ToolCall(name="f", arguments={}, id="a1b2c3d4e")])),
    Message(role="tool", content="Hi.", tool_call_id="a1b2c3d4e"),
]
_INSTRUCTED: list[Message] = [Message(role="system", content="Be brief."), Message(role="user", content="Hello?")]


class MistralRenderer(FamilyRenderer):
    """What the generations share: user and assistant take turns, and the last question carries the tools.

    So with tools, the conversation's earlier turns read otherwise each time the user speaks again.

    call_marks: the control tokens of calls. writes_text_beside_calls: whether an answer may have both.
    """

    controls: ClassVar[tuple[str, ...]] = (
        *(_END, _BEGIN, _ASK, _ASKED),
        *(_TOOLS, _TOOLS_END, CALL, _RESULT, RESULT_END),
    )
    probes: ClassVar = (*PROBES, (_INSTRUCTED, True), (_CALLED, True))
    writes_tools: ClassVar[bool] = True
    writes_calls: ClassVar[bool] = True
    call_marks: ClassVar[tuple[str, ...]] = (CALL,)
    writes_text_beside_calls: ClassVar[bool] = False

    @property
    def has_extension_property(self) -> bool:
        """No: tools move along to the last question."""
        return False

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        del prompt  # the assistant speaks after a question or a result, whose own end says so
        page.token(self.ids[_BEGIN])
        first = self._preamble(page, messages)
        for index in range(first, len(messages)):
            message, role = messages[index], messages[index]["role"]
            if role == "assistant":
                if self._reads_otherwise(messages, tools, index):
                    page.history(index)
                page.begin(index)
                self._answer(page, message)
                page.token(self.ids[_END])
                page.end()
            elif role == "user":
                if tools and text_of(message) == _last_question(messages):
                    page.token(self.ids[_TOOLS])
                    page.text(self._declared(tools))
                    page.token(self.ids[_TOOLS_END])
                page.token(self.ids[_ASK])
                self._before_content(page, messages, index)
                page.said(index, text_of(message), stop=self.ids[_ASKED])
            elif role == "tool":
                page.token(self.ids[_RESULT])
                self._result(page, message, index)
            else:
                self._system(page, text_of(message), index)

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        call = self.ids[CALL]
        start = ids.index(call) if call in ids else len(ids)
        content, clean = self.decode_response(ids[:start])
        if start == len(ids):
            return Message(role="assistant", content=content), clean
        calls = self._calls_in(parts_of(ids[start:], call)[1:])
        if calls is None:
            marks = {self.ids[mark] for mark in self.call_marks}
            _, clean = self.decode_response([token for token in ids if token not in marks])
            content, _ = self.decode_response(ids)
            return Message(role="assistant", content=content), clean and cut
        clean = clean and (self.writes_text_beside_calls or not content.strip())
        return Message(role="assistant", content=content, tool_calls=call_message(calls)), clean

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        """As for every family; and refuse turns, calls and results that the template refuses or drops."""
        super().refuse_malformed(messages, tools)
        problems = [*out_of_turn(messages, family="Mistral's conventions"), *_misplaced_tools(messages, tools)]
        problems += [*_wrong_ids(messages), *self._unplaced(messages)]
        if not self.writes_text_beside_calls:
            problems += text_beside_calls(messages)
        if problems:
            raise RendererError(problems)

    @abstractmethod
    def _preamble(self, page: Page, messages: Sequence[Message]) -> int:
        """What stands before the first turn; how many messages that took."""

    @abstractmethod
    def _declared(self, tools: Sequence[Tool]) -> str:
        """The tools as text."""

    @abstractmethod
    def _answer(self, page: Page, message: Message) -> None:
        """What the assistant says or calls, without the end of its turn."""

    @abstractmethod
    def _result(self, page: Page, message: Message, index: int) -> None:
        """A tool's result after its control token, through its end."""

    @abstractmethod
    def _calls_in(self, parts: Sequence[Sequence[int]]) -> list[ToolCall] | None:
        """The calls in what follows each `[TOOL_CALLS]`; None if they cannot be read."""

    def _unplaced(self, messages: Sequence[Message]) -> Iterator[Problem]:
        """What this generation has no place for, besides."""
        del messages
        yield from ()

    def _before_content(self, page: Page, messages: Sequence[Message], index: int) -> None:
        """What a question holds before its content."""
        del page, messages, index

    def _system(self, page: Page, text: str, index: int) -> None:
        """A system message where it stands; only what does not refuse it there needs a way to write it."""
        del page, text
        raise AssertionError(f"messages[{index}] was not refused")

    def _reads_otherwise(self, messages: Sequence[Message], tools: Sequence[Tool], index: int) -> bool:
        """Whether what stands before this answer differs from the prompt that it would be generated from."""
        return bool(tools) and _last_question(messages[:index]) != _last_question(messages)


class MistralV3Renderer(MistralRenderer):
    """v3 with the Tekken tokenizer (Mistral Nemo): the last question also carries the system message; calls are JSON.

    It differs from the template on purpose in one thing. The template writes the system message only where the last
    message is the user's, and drops it from a conversation that ends in an answer or a tool's result; here the last
    question carries it wherever it stands, as in mistral-common.

    Each answer before the last question is history wherever there are tools or a system message: they were before an
    earlier question when it was generated. Text beside a call, which the template drops, is refused.
    """

    name: ClassVar[str] = "mistral_v3"

    def _preamble(self, page: Page, messages: Sequence[Message]) -> int:
        del page
        return turns_from(messages)

    def _before_content(self, page: Page, messages: Sequence[Message], index: int) -> None:
        if messages[0]["role"] == "system" and index == last_user(messages):
            page.said(0, text_of(messages[0]))
            page.text("\n\n")

    def _declared(self, tools: Sequence[Tool]) -> str:
        return f"[{', '.join(_function(tool) for tool in tools)}]"

    def _answer(self, page: Page, message: Message) -> None:
        calls = calls_of(message)
        if not calls:
            page.text(text_of(message))
            return
        page.token(self.ids[CALL])
        page.text(as_json([{"name": call.name, "arguments": call.object, "id": call.id} for call in calls]))

    def _result(self, page: Page, message: Message, index: int) -> None:
        page.text('{"content": ')
        page.said(index, text_of(message))
        page.text(f', "call_id": "{answered_call(message)}"}}')
        page.token(self.ids[RESULT_END])

    def _calls_in(self, parts: Sequence[Sequence[int]]) -> list[ToolCall] | None:
        text, clean = self.decode_response(parts[0])
        return _listed_calls(text) if clean and len(parts) == 1 else None

    def _unplaced(self, messages: Sequence[Message]) -> Iterator[Problem]:
        return misplaced_system(messages, family="Mistral v3", place="the last question")

    def _reads_otherwise(self, messages: Sequence[Message], tools: Sequence[Tool], index: int) -> bool:
        moved = messages[0]["role"] == "system" and last_user(messages[:index]) != last_user(messages)
        return moved or super()._reads_otherwise(messages, tools, index)


def _last_question(messages: Sequence[Message]) -> str | None:
    """Its text: the templates declare the tools before every question that reads like the last one."""
    last = last_user(messages)
    return None if last < 0 else text_of(messages[last])


def _function(tool: Tool) -> str:
    """A declaration as v3's template writes it: texts as they are, with nothing escaped."""
    fields = [
        f'"{key}": "{value}"' if isinstance(value, str) else f'"{key}": {as_json(value)}'
        for key, value in function_of(tool).items()
        if key != "return"
    ]
    return f'{{"type": "function", "function": {{{", ".join(fields)}}}}}'


def parts_of(ids: Sequence[int], mark: int) -> list[list[int]]:
    """What stands before, between and after the marks."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _listed_calls(text: str) -> list[ToolCall] | None:
    try:
        items = read_json(text)
    except ValueError:
        return None
    calls = [_listed_call(item) for item in cast("list[object]", items)] if isinstance(items, list) else []
    return None if not calls or None in calls else [call for call in calls if call is not None]


def _listed_call(item: object) -> ToolCall | None:
    if not isinstance(item, dict):
        return None
    fields = cast("Mapping[str, Any]", item)
    return read_call(fields.get("name"), fields.get("arguments"), fields.get("id"))


def read_call(name: object, arguments: object, ident: object) -> ToolCall | None:
    """The call of these parts; None if it could not be written again."""
    if not isinstance(name, str) or not name or not isinstance(arguments, Mapping):
        return None
    if not isinstance(ident, str) or len(ident) != _ID_LENGTH:
        return None
    return ToolCall(name=name, arguments=cast("Mapping[str, Any]", arguments), id=ident)


def answered_call(message: Message) -> str:
    """The id of the call that a tool's result answers."""
    return str(message.get("tool_call_id") or "")


def _misplaced_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> Iterator[Problem]:
    if tools and last_user(messages) < 0:
        yield Problem(
            what="tools are declared with the last question, and there is none",
            where="tools",
            fix="Add the user's message, or render without tools",
        )


def _wrong_ids(messages: Sequence[Message]) -> Iterator[Problem]:
    for index, message in enumerate(messages):
        given = [call.id for call in calls_of(message)]
        if message["role"] == "tool":
            given.append(answered_call(message))
        for ident in given:
            if len(ident) != _ID_LENGTH:
                yield Problem(
                    what="Mistral's tool calls and their results have ids of nine letters and digits",
                    where=f"messages[{index}]",
                    given=shown(ident),
                    fix="Give each call such an id, and its result the same one as tool_call_id",
                )
