"""What do families share that write a turn's calls between control tokens, name and arguments apart?"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from crucible.errors import Problem, RendererError
from crucible.ports.tokenizer import Tokenizer
from crucible.train.messages import Message, Tool, ToolCall, call_message, calls_of
from crucible.train.renderers.family import FamilyRenderer, plain

# A response as one letter per token: "." is text, B O S C E are the marks of calls, "t" is a tag, which may only be
# what a call says, "x" is what may be nowhere.
_BLOCK = re.compile(r"B(?:\.*O\.*S\.*C)+\.*E")
_CALL = re.compile(r"O(\.*)S(\.*)C")


class MarkedRenderer(FamilyRenderer):
    """A family whose calls stand in one block at the end of a turn.

    call_marks: the control tokens before all calls, before one, between its two parts, after it, and after all; empty
    where there are no calls.
    """

    call_marks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        marks = {self.ids[mark]: letter for mark, letter in zip(self.call_marks, "BOSCE", strict=False)}
        tags = {self.ids[tag]: "t" for tag in self.tags}
        self._letters = dict.fromkeys(self.special_ids, "x") | tags | marks

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        layout = "".join(map(self._letter, ids))
        before = len(layout) if (begin := layout.find("B")) < 0 else begin
        if layout[:before].strip(".") or "x" in layout:
            return plain(ids, self)[0], False
        message, _ = plain(ids[:before], self)
        if before == len(layout):
            return message, True
        calls = self._calls(ids[before:], layout[before:].replace("t", "."))
        if calls is None:
            return plain(ids, self)[0], cut
        message["tool_calls"] = call_message(calls)
        return message, True

    @abstractmethod
    def read_call(self, head: str, body: str) -> ToolCall | None:
        """A call from the texts before and after the mark in its middle; None if they are none."""

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        super().refuse_malformed(messages, tools)
        problems = self.shape_problems(messages)
        if problems:
            raise RendererError(problems)

    def shape_problems(self, messages: Sequence[Message]) -> list[Problem]:
        """What the convention cannot write in the order in which the messages stand."""
        return misplaced_results(messages)

    def _letter(self, token: int) -> str:
        return self._letters.get(token, ".") if 0 <= token < self.tokenizer.vocab_size else "x"

    def _calls(self, ids: Sequence[int], layout: str) -> list[ToolCall] | None:
        """The calls of a block; None for a block that is broken or still open."""
        if not _BLOCK.fullmatch(layout):
            return None
        found = list(_CALL.finditer(layout))
        inside = {place for call in found for place in range(*call.span())}
        between = self.tokenizer.decode(
            [token for place, token in enumerate(ids[:-1]) if place and place not in inside]
        )
        calls = [
            self.read_call(*(self.tokenizer.decode(ids[slice(*one.span(part))]) for part in (1, 2))) for one in found
        ]
        return None if between.strip() or None in calls else [call for call in calls if call is not None]


def misplaced_results(messages: Sequence[Message]) -> list[Problem]:
    """Tools' results that do not stand in the order of their calls, which is all that tells what they answer."""
    due: list[str] = []
    problems: list[Problem] = []
    for index, message in enumerate(messages):
        due += [call.id for call in calls_of(message)]
        if message["role"] == "tool" and due:
            expected, given = due.pop(0), message.get("tool_call_id", "")
            if expected and given and expected != given:
                problems.append(
                    Problem(
                        what=f"a tool's result stands where that of the call {expected} is due",
                        where=f"messages[{index}]",
                        given=given,
                        fix="Put the results in the order of their calls, one for each",
                    )
                )
    return problems


def object_call(name: str, arguments: str, *, ident: str = "") -> ToolCall | None:
    """A call whose arguments are JSON text; None if that is not of an object, or there is no name."""
    value = ToolCall(name=name, arguments=arguments).object
    return ToolCall(name=name, arguments=value, id=ident) if name and value is not None else None
