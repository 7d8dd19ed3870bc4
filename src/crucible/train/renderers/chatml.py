"""How does ChatML write a conversation? `<|im_start|>role`, a line break, the content, `<|im_end|>`."""

from collections.abc import Sequence
from typing import ClassVar

from crucible.train.messages import Message, Tool, text_of
from crucible.train.renderers.family import FamilyRenderer, plain
from crucible.train.renderers.page import Page

START, END = "<|im_start|>", "<|im_end|>"


class ChatMlRenderer(FamilyRenderer):
    """Plain ChatML: no reasoning, no tools, no system message but the one given.

    default_system: what a conversation without a system message begins with, where the model's template says so.
    """

    name: ClassVar[str] = "chatml"
    controls: ClassVar[tuple[str, ...]] = (END, START)
    default_system: ClassVar[str] = ""

    def write(self, page: Page, messages: Sequence[Message], tools: Sequence[Tool], *, prompt: bool) -> None:
        del tools
        start, end = self.ids[START], self.ids[END]
        if self.default_system and messages[0]["role"] != "system":
            page.token(start)
            page.text(f"system\n{self.default_system}")
            page.token(end)
            page.text("\n")
        for index, message in enumerate(messages):
            page.token(start)
            page.text(f"{message['role']}\n")
            if message["role"] == "assistant":
                page.begin(index)
                page.text(text_of(message))
                page.token(end)
                page.end()
            else:
                page.said(index, text_of(message), stop=end)
            page.text("\n")
        if prompt:
            page.token(start)
            page.text("assistant\n")

    def read(self, ids: Sequence[int], *, cut: bool) -> tuple[Message, bool]:
        del cut
        return plain(ids, self)


class SmolLm2Renderer(ChatMlRenderer):
    """SmolLM2's instruct models: ChatML with their own default system message.

    Source: the chat template of HuggingFaceTB/SmolLM2-135M-Instruct.
    """

    name: ClassVar[str] = "smollm2"
    default_system: ClassVar[str] = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
