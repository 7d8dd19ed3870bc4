"""Which renderer is compared with which model's template, on which conversations?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corpus import CORPUS


@dataclass(frozen=True, kw_only=True)
class Case:
    """A renderer's own ground.

    family: the folder of tokenizer and template. variables: what the template is told besides the conversation.
    conversations: names in the corpus; a variant of a renderer needs only those in which it can differ.
    """

    family: str
    variables: Mapping[str, Any] = field(default_factory=dict[str, Any])
    conversations: tuple[str, ...] = tuple(CORPUS)


_VARIANT = (
    *("single_turn", "multi_turn", "system", "trailing_user", "empty_answer", "tools_declared", "tool_result"),
    *("tools_in_turns", "thinking", "thinking_in_history", "thinking_before_a_call", "thinking_open"),
)

CASES: Mapping[str, Case] = {
    "qwen3": Case(family="qwen3"),
    "qwen3_disable_thinking": Case(family="qwen3", variables={"enable_thinking": False}, conversations=_VARIANT),
    "qwen3_instruct": Case(family="qwen3_instruct"),
    "qwen3_5": Case(family="qwen3_5"),
    "qwen3_5_disable_thinking": Case(family="qwen3_5", variables={"enable_thinking": False}, conversations=_VARIANT),
    "llama3": Case(family="llama3"),
    "llama3_1": Case(family="llama3_1"),
    "llama3_2": Case(family="llama3_2"),
    "gemma3": Case(family="gemma3"),
    "mistral_v3": Case(family="mistral_nemo"),
    "mistral_v11": Case(family="mistral"),
    "deepseek_v3": Case(family="deepseek_v3"),
    "deepseek_v3_1": Case(family="deepseek_v3_1", variables={"thinking": False}),
    "deepseek_v3_1_thinking": Case(
        family="deepseek_v3_1", variables={"thinking": True}, conversations=(*_VARIANT, "two_answers")
    ),
    "gpt_oss": Case(family="gpt_oss", variables={"reasoning_effort": "medium"}),
    "gpt_oss_low": Case(family="gpt_oss", variables={"reasoning_effort": "low"}, conversations=_VARIANT),
    "gpt_oss_high": Case(family="gpt_oss", variables={"reasoning_effort": "high"}, conversations=_VARIANT),
    "kimi_k2_unverified": Case(family="kimi_k2"),
    "smollm2": Case(family="smollm2"),
}
"""By the renderer's name."""

NO_TEMPLATE = frozenset({"template", "role_colon", "chatml", "qwen3_keep_thinking", "qwen3_5_keep_thinking", "kimi_k2"})
"""Renderers that no packaged model's template agrees with, that run a template themselves, or that are only a name."""
