"""How do the Gemma 3 models write a conversation? Turns of `user` and `model`; the system message opens the first one.

Source: the chat template of Gemma 3's instruct models, such as google/gemma-3-4b-it.
"""

from collections.abc import Sequence
from typing import ClassVar

from crucible.errors import RendererError
from crucible.train.messages import Message, Tool, text_of
from crucible.train.renderers.family import PROBES, FamilyRenderer, plain
from crucible.train.renderers.page import Page
from crucible.train.renderers.turns import misplaced_system, out_of_turn, turns_from

_BEGIN, _START, _END = "<bos>", "<start_of_turn>", "<end_of_turn>"


class Gemma3Renderer(FamilyRenderer):
    """Gemma 3: user and model take turns, the user first; no tools, no reasoning.

    White space around a message is left out, but for the system message's. A system message that no question follows,
    which the template drops without a word, is refused; so is one later on.
    """

    name: ClassVar[str] = "gemma3"
    controls: ClassVar[tuple[str, ...]] = (_END, _START, _BEGIN)
    roles: ClassVar[frozenset[str]] = frozenset({"system", "user", "assistant"})
    probes: ClassVar = (
        *PROBES,
        ([Message(role="system", content="Be brief."), Message(role="user", content="Hello?")], True),
    )

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        del tools
        page.token(self.ids[_BEGIN])
        end = self.ids[_END]
        first = turns_from(messages)
        for index in range(first, len(messages)):
            content = text_of(messages[index]).strip()
            answers = messages[index]["role"] == "assistant"
            self._header(page, "model" if answers else "user")
            if index == first == 1:
                page.said(0, text_of(messages[0]))
                page.text("\n\n")
            if answers:
                page.begin(index)
                page.text(content)
                page.token(end)
                page.end()
            else:
                page.said(index, content, stop=end)
            page.text("\n")
        if prompt:
            self._header(page, "model")

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        del cut
        return plain(ids, self)

    def refuse_malformed(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> None:
        """As for every family; and refuse all but turns by user and assistant, after one system message or none."""
        super().refuse_malformed(messages, tools)
        problems = [
            *misplaced_system(messages, family="Gemma 3", place="the first question"),
            *out_of_turn(messages, family="Gemma 3"),
        ]
        if problems:
            raise RendererError(problems)

    def _header(self, page: Page, role: str) -> None:
        page.token(self.ids[_START])
        page.text(f"{role}\n")
