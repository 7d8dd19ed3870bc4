"""How do Mistral's models of generation v11 write a conversation? The system message and each call between own tokens.

Source: the chat template of mistralai/Mistral-Small-3.2-24B-Instruct-2506; where it drops something, mistral-common
1.13, the models' own encoder.
"""

from collections.abc import Sequence
from typing import ClassVar

from crucible.ports.tokenizer import TODAY
from crucible.train.messages import Message, Tool, ToolCall, as_json, calls_of, text_of
from crucible.train.renderers.mistral import CALL, RESULT_END, MistralRenderer, answered_call, parts_of, read_call
from crucible.train.renderers.page import Page

_ID, _ARGUMENTS, _CONTENT = "[CALL_ID]", "[ARGS]", "[TOOL_CONTENT]"
_SYSTEM, _SYSTEM_END = "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"

# As Mistral Small 3.2's template has it, on the day that crucible's chat templates are told.
_DEFAULT_SYSTEM = (
    "You are Mistral Small 3, a Large Language Model (LLM) created by Mistral AI, a French startup "
    "headquartered in Paris.\n"
    f"Your knowledge base was last updated on 2023-10-01. The current date is {TODAY:%Y-%m-%d}.\n\n"
    "When you're not sure about some information or when the user's request requires up-to-date or specific "
    "data, you must use the available tools to fetch the information. Do not hesitate to use tools whenever "
    "they can provide a more accurate or complete response. If no relevant tools are available, then clearly "
    "state that you don't have the information and avoid making up anything.\n\n"
    "If the user's question is not clear, ambiguous, or does not provide enough context for you to accurately "
    "answer the question, you do not try to answer it right away and you rather ask the user to clarify their "
    'request (e.g. "What are some good restaurants around me?" => "Where are you?" or "When is the next flight'
    ' to Tokyo" => "Where do you travel from?").\n'
    "You are always very attentive to dates, and when asked about information at specific dates, you discard "
    "information that is at another date.\n"
    "You follow these instructions in all languages, and always respond to the user in the language they use "
    "or request.\n"
    "Next sections describe the capabilities that you have.\n\n"
    "# WEB BROWSING INSTRUCTIONS\n\n"
    "You cannot perform any web search or access internet to open URLs, links etc. If it seems like the user "
    "is expecting you to do so, you clarify the situation and ask the user to copy paste the text directly in "
    "the chat.\n\n"
    "# MULTI-MODAL INSTRUCTIONS\n\n"
    "You have the ability to read images, but you cannot generate images. You also cannot transcribe audio "
    "files or videos.\n"
    "You cannot read nor transcribe audio files or videos.\n\n"
    "# TOOL CALLING INSTRUCTIONS\n\n"
    "You may have access to tools that you can use to fetch information or perform actions. You must use these"
    " tools in the following situations:\n\n"
    "1. When the request requires up-to-date information.\n"
    "2. When the request requires specific data that you do not have in your knowledge base.\n"
    "3. When the request involves actions that you cannot perform without tools.\n\n"
    "Always prioritize using tools to provide the most accurate and helpful response. If tools are not "
    "available, inform the user that you cannot perform the requested action at the moment."
)


class MistralV11Renderer(MistralRenderer):
    """v11 (Mistral Small 3.2): the system message stands apart, a long one of the template's where none is given;
    each call has tokens of its own.

    It differs from the template on purpose in one thing: text before a call, which the template drops, is written, as
    in mistral-common. With tools, each answer before the last question is history.
    """

    name: ClassVar[str] = "mistral_v11"
    controls: ClassVar[tuple[str, ...]] = (
        *MistralRenderer.controls,
        *(_SYSTEM, _SYSTEM_END, _CONTENT, _ID, _ARGUMENTS),
    )
    call_marks: ClassVar[tuple[str, ...]] = (CALL, _ID, _ARGUMENTS)
    writes_text_beside_calls: ClassVar[bool] = True

    def _preamble(self, page: Page, messages: Sequence[Message]) -> int:
        if messages[0]["role"] != "system":
            page.token(self.ids[_SYSTEM])
            page.text(_DEFAULT_SYSTEM)
            page.token(self.ids[_SYSTEM_END])
        return 0

    def _system(self, page: Page, text: str, index: int) -> None:
        page.token(self.ids[_SYSTEM])
        page.said(index, text, stop=self.ids[_SYSTEM_END])

    def _declared(self, tools: Sequence[Tool]) -> str:
        return as_json(list(tools))

    def _answer(self, page: Page, message: Message) -> None:
        page.text(text_of(message))
        for call in calls_of(message):
            page.token(self.ids[CALL])
            page.text(call.name)
            page.token(self.ids[_ID])
            page.text(call.id)
            page.token(self.ids[_ARGUMENTS])
            page.text(as_json(call.object))

    def _result(self, page: Page, message: Message, index: int) -> None:
        page.text(answered_call(message))
        page.token(self.ids[_CONTENT])
        page.said(index, text_of(message), stop=self.ids[RESULT_END])

    def _calls_in(self, parts: Sequence[Sequence[int]]) -> list[ToolCall] | None:
        calls = [self._call_in(part) for part in parts]
        return None if None in calls else [call for call in calls if call is not None]

    def _call_in(self, ids: Sequence[int]) -> ToolCall | None:
        head, *arguments = parts_of(ids, self.ids[_ARGUMENTS])
        name, *ident = parts_of(head, self.ids[_ID])
        texts = [self.decode_response(part) for part in (name, *arguments, *ident)]
        if len(arguments) != 1 or len(ident) != 1 or not all(clean for _, clean in texts):
            return None
        (said, _), (given, _), (number, _) = texts
        return read_call(said, ToolCall(name=said, arguments=given).object, number)
