"""How does a chat become a prompt, and what was drawn a message with its reasoning and its tool calls?"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast
from uuid import uuid4

from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import (
    OnToken,
    SampledSequence,
    SampleReport,
    SamplingClient,
    SamplingParams,
    SamplingSession,
)
from crucible.server.openai_errors import OpenAiError
from crucible.server.openai_growing import Texts
from crucible.server.openai_logprobs import chat_logprobs
from crucible.server.openai_models import Voice
from crucible.server.openai_requests import ChatRequest
from crucible.server.openai_texts import before_stop, usage_json
from crucible.train.messages import Message, Tool, calls_of, text_of, thinking_of
from crucible.train.renderers import Renderer
from crucible.train.renderers.certain import certain_message


def chat_prompt(renderer: Renderer, asked: ChatRequest) -> list[int]:
    """The conversation up to where the assistant's answer begins, as token ids.

    Raises:
        OpenAiError: if tools are to be called which are not declared.
        RendererError: if the conversation is malformed, or has what the renderer has no place for.
    """
    if asked.tool_choice not in (None, "auto", "none"):
        raise OpenAiError(400, "tool_choice: only auto and none are done here", param="tool_choice")
    tools = cast("Sequence[Tool]", asked.tools or ()) if asked.tool_choice != "none" else ()
    messages = cast("Sequence[Message]", [_read(message) for message in asked.messages])
    return list(renderer.build_generation_prompt(messages, tools=tools).to_ints())


async def chat_choices(
    sampling: SamplingClient,
    opening: AbstractAsyncContextManager[SamplingSession],
    voice: Voice,
    prompt: Sequence[int],
    asked: ChatRequest,
    params: SamplingParams,
    on_token: OnToken | None = None,
) -> tuple[list[dict[str, Any]], dict[str, int], str]:
    """The choices, the usage, and the digest of the weights.

    Raises:
        ValueError, PortError: as `SamplingClient.sample`.
    """
    top = asked.top_logprobs if asked.logprobs else None
    report = SampleReport(topk_sample_logprobs=top) if top else None
    async with opening as session:
        response = await sampling.sample(
            session,
            ModelInput.from_ints(prompt),
            num_samples=asked.n or 1,
            params=params,
            report=report,
            on_token=on_token,
        )
    choices = [choice_json(index, sequence, voice, asked) for index, sequence in enumerate(response.sequences)]
    drawn = sum(len(sequence.tokens) for sequence in response.sequences)
    return choices, usage_json(len(prompt), drawn), response.provenance.digest


def certain_texts(renderer: Renderer, stops: Sequence[str], tokens: Sequence[int]) -> Texts:
    """Of a message that is being drawn, the texts as far as nothing that comes can change them."""
    reasoning, content = certain_message(renderer, tokens, stops)
    return {"reasoning_content": reasoning, "content": content}


def choice_json(index: int, sequence: SampledSequence, voice: Voice, asked: ChatRequest) -> dict[str, Any]:
    """A completion as a choice: what the renderer reads in it, up to the client's own stop."""
    parsed = voice.renderer.parse_response(sequence.tokens)
    content, cut = before_stop(text_of(parsed.message), asked.stops)
    calls = [] if cut else [_call_json(call.name, call.text, call.id) for call in calls_of(parsed.message)]
    message: dict[str, Any] = {"role": "assistant", "content": content if content or not calls else None}
    if thinking := thinking_of(parsed.message):
        message["reasoning_content"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {
        "index": index,
        "message": message,
        "finish_reason": "tool_calls" if calls else sequence.stop_reason,
        "logprobs": chat_logprobs(sequence, voice.tokenizer) if asked.logprobs else None,
    }


def _call_json(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id or f"call_{uuid4().hex[:24]}", "type": "function", "function": function}


def _read(message: dict[str, Any]) -> dict[str, Any]:
    """A message as clients send it back to us: what is null is absent, but for the content."""
    return {key: value for key, value in message.items() if value is not None or key == "content"}
