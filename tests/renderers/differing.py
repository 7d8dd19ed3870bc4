"""In which conversations does a renderer mean to write other tokens than the model's own template, and why?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["refused", "cut", "written"]


@dataclass(frozen=True)
class Reason:
    """Why a conversation is not written as the template writes it.

    kind: `refused` by one of the two; `cut`: the same text, cut into tokens elsewhere; `written`: another text.
    """

    kind: Kind
    why: str


INJECTION = Reason("cut", "a special token's text in a message stays text; the template's would end or forge a turn")
BORDER = Reason("cut", "line breaks at the start of an answer would merge with the one that ends its prompt")
EMPTY_REASONING = Reason("cut", "its prompt ends in <think> and a line break, which the next one cannot merge with")
NO_ROLE = Reason("refused", "the template leaves a message of this role out, or makes up a turn for it")
NO_THINKING = Reason("refused", "the template leaves reasoning out: the model does not reason")
NO_TOOLS = Reason("refused", "the template leaves declarations or calls out: the model has no place for them")
NO_TEXT_BESIDE_A_CALL = Reason("refused", "the template leaves the text beside a call out")
LATER_SYSTEM = Reason("refused", "the template puts a later system message before all else, or leaves it out")
ONE_CALL = Reason("refused", "the template writes a turn's first call and leaves the others out")
ONE_ANSWER = Reason("refused", "a reasoning answer follows a question; the template continues the answer before")
TEXT_BESIDE_A_CALL = Reason(
    "written", "the template leaves the text beside a call out; Mistral's own encoder writes it"
)
SYSTEM_LAST = Reason("written", "the template writes the system message only while the last message is the user's")
BROKEN_CALLS = Reason(
    "written", "the template closes calls only from a turn's second on, and drops what is said before"
)
REASONING_KEPT = Reason(
    "written", "reasoning before a call stays, as in the prompt for the answer: the template drops it"
)
REASONED = Reason("written", "the template writes every given answer as one without reasoning")

UNDECLARED = (
    *("undeclared_call", "undeclared_answer", "undeclared_result", "undeclared_in_parallel", "undeclared_in_turns"),
)
TOOLS = (
    *("tools_declared", "tools_and_system", "tool_call", "tool_call_with_text", "tool_result", "tool_answer"),
    *("tools_in_parallel", "tools_in_turns", "nested_arguments", "thinking_before_a_call", "thinking_open"),
)
THINKING = ("thinking", "thinking_in_history", "thinking_before_a_call", "thinking_open", "thinking_with_white_space")


def _of(conversations: Iterable[str], reason: Reason) -> dict[str, Reason]:
    return dict.fromkeys(conversations, reason)


_QWEN3_5_ANSWERS_WITHOUT_REASONING = (
    *("single_turn", "multi_turn", "system", "two_users", "two_answers", "empty_user", "empty_answer", "empty_system"),
    *("unicode", "right_to_left", "white_space", "only_white_space", "line_breaks", "code", "long_line", "numbers"),
    *("tools_declared", "tools_and_system", "tool_call", "tool_call_with_text", "tool_answer", "tools_in_parallel"),
    *("undeclared_call", "undeclared_answer", "undeclared_in_parallel", "undeclared_in_turns"),
    *("tools_in_turns", "nested_arguments", "thinking_in_history", "think_text_in_a_question", "llama_text"),
    *("deepseek_text", "gpt_oss_text", "gemma_text", "mistral_text", "tool_tags_text"),
)
_LLAMA3_1 = {
    **_of(THINKING, NO_THINKING),
    "tool_call_with_text": NO_TEXT_BESIDE_A_CALL,
    "undeclared_answer": NO_TEXT_BESIDE_A_CALL,
    "developer": NO_ROLE,
    "llama_text": INJECTION,
}
_DEEPSEEK = {
    **_of(TOOLS, NO_TOOLS),
    **_of(THINKING, NO_THINKING),
    "system_later": LATER_SYSTEM,
    "developer": NO_ROLE,
    "deepseek_text": INJECTION,
}

DIFFERENCES: Mapping[str, Mapping[str, Reason]] = {
    "qwen3": {"developer": NO_ROLE, "chatml_text": INJECTION},
    "qwen3_disable_thinking": _of(THINKING[:-1], NO_THINKING),
    "qwen3_instruct": {
        **_of(THINKING, NO_THINKING),
        "developer": NO_ROLE,
        "white_space": BORDER,
        "chatml_text": INJECTION,
    },
    "qwen3_5": {**_of(_QWEN3_5_ANSWERS_WITHOUT_REASONING, EMPTY_REASONING), "chatml_text": INJECTION},
    "qwen3_5_disable_thinking": _of(THINKING[:-1], NO_THINKING),
    "llama3": {
        **_of((*TOOLS, *UNDECLARED), NO_TOOLS),
        **_of(THINKING, NO_THINKING),
        "developer": NO_ROLE,
        "llama_text": INJECTION,
    },
    "llama3_1": _LLAMA3_1,
    "llama3_2": _LLAMA3_1,
    "gemma3": {
        **_of(("tools_declared", "tools_and_system", "tool_call", "tool_call_with_text", "nested_arguments"), NO_TOOLS),
        "undeclared_call": NO_TOOLS,
        **_of(("thinking", "thinking_in_history", "thinking_with_white_space"), NO_THINKING),
        "gemma_text": INJECTION,
    },
    "mistral_v3": {
        **_of(("system", "empty_system", "white_space"), SYSTEM_LAST),
        **_of(("tools_and_system", "tools_in_turns", "undeclared_result"), SYSTEM_LAST),
        **_of(THINKING, NO_THINKING),
        "tool_call_with_text": NO_TEXT_BESIDE_A_CALL,
        "undeclared_answer": NO_TEXT_BESIDE_A_CALL,
        "mistral_text": INJECTION,
    },
    "mistral_v11": {
        **_of(THINKING, NO_THINKING),
        "tool_call_with_text": TEXT_BESIDE_A_CALL,
        "undeclared_answer": TEXT_BESIDE_A_CALL,
        "mistral_text": INJECTION,
    },
    "deepseek_v3": {
        **_DEEPSEEK,
        **_of(("undeclared_call", "undeclared_answer", "undeclared_result", "undeclared_in_turns"), BROKEN_CALLS),
    },
    "deepseek_v3_1": _DEEPSEEK,
    "deepseek_v3_1_thinking": {
        **_of(("tools_declared", "tool_result", "tools_in_turns"), NO_TOOLS),
        **_of(("thinking_before_a_call", "thinking_open"), NO_TOOLS),
        "thinking": REASONED,
        "two_answers": ONE_ANSWER,
    },
    "gpt_oss": {
        "system_later": LATER_SYSTEM,
        "tools_in_parallel": ONE_CALL,
        "undeclared_in_parallel": ONE_CALL,
        "undeclared_answer": REASONING_KEPT,
        "thinking_before_a_call": REASONING_KEPT,
        "chatml_text": INJECTION,
        "gpt_oss_text": INJECTION,
    },
    "gpt_oss_low": {"thinking_before_a_call": REASONING_KEPT},
    "gpt_oss_high": {"thinking_before_a_call": REASONING_KEPT},
    "kimi_k2_unverified": {**_of(THINKING, NO_THINKING), "chatml_text": INJECTION},
    "smollm2": {
        **_of((*TOOLS, *UNDECLARED), NO_TOOLS),
        **_of(THINKING, NO_THINKING),
        "developer": NO_ROLE,
        "white_space": BORDER,
        "only_white_space": BORDER,
        "chatml_text": INJECTION,
    },
}
"""By renderer and conversation. One that no longer differs must be taken off the list."""
