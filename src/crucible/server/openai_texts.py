"""How do texts or token ids become completions, with the prompt before them where that is asked for?"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import (
    OnToken,
    SampledSequence,
    SampleReport,
    SampleResponse,
    SamplingClient,
    SamplingParams,
    SamplingSession,
    TopLogprobs,
)
from crucible.ports.tokenizer import Tokenizer
from crucible.server.openai_errors import OpenAiError
from crucible.server.openai_growing import Texts
from crucible.server.openai_logprobs import completion_logprobs, text_of_tokens
from crucible.server.openai_requests import CompletionRequest
from crucible.train.renderers.certain import certain_text

_MOST_PROMPTS = 1024


def completion_prompts(tokenizer: Tokenizer, asked: CompletionRequest) -> list[list[int]]:
    """Each prompt as token ids. A text's special tokens are read as such; none is added, BOS included.

    Raises:
        OpenAiError: if there is no prompt, or too many.
    """
    given = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    prompts: list[list[int]] = []
    if given and all(isinstance(one, int) for one in given):
        prompts = [cast("list[int]", given)]
    elif not any(isinstance(one, int) for one in given):
        texts_and_ids = cast("list[str | list[int]]", given)
        prompts = [list(tokenizer.encode(one).ids) if isinstance(one, str) else one for one in texts_and_ids]
    if not prompts or not all(prompts) or len(prompts) > _MOST_PROMPTS:
        raise OpenAiError(400, f"prompt: give one to {_MOST_PROMPTS}, none of them empty", param="prompt")
    return prompts


async def completion_choices(
    sampling: SamplingClient,
    opening: AbstractAsyncContextManager[SamplingSession],
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    asked: CompletionRequest,
    params: SamplingParams,
    on_token: Callable[[int], OnToken | None] = lambda _: None,
) -> tuple[list[dict[str, Any]], dict[str, int], str]:
    """The choices, the usage, and the digest of the weights.

    on_token: for the choices from that number on.

    Raises:
        ValueError, PortError: as `SamplingClient.sample`.
    """
    scored = bool(asked.echo and asked.logprobs is not None)
    top = asked.logprobs or 0
    report = SampleReport(topk_sample_logprobs=top, topk_prompt_logprobs=top if scored else 0) if top else None
    async with opening as session:
        submitted = [
            sampling.sample(
                session,
                ModelInput.from_ints(prompt),
                num_samples=asked.n or 1,
                params=params,
                prompt_logprobs=scored,
                report=report,
                on_token=on_token(number * (asked.n or 1)),
            )
            for number, prompt in enumerate(prompts)
        ]

        async def wait(number: int) -> SampleResponse:
            return await submitted[number]

        responses = await asyncio.gather(*map(wait, range(len(submitted))))
    choices = [
        _choice(number, prompt, sequence, response, tokenizer, asked)
        for number, (prompt, sequence, response) in enumerate(
            (prompt, sequence, response)
            for prompt, response in zip(prompts, responses, strict=True)
            for sequence in response.sequences
        )
    ]
    drawn = 0 if asked.max_tokens == 0 else sum(len(one.tokens) for each in responses for one in each.sequences)
    return choices, usage_json(sum(map(len, prompts)), drawn), responses[0].provenance.digest


def certain_texts(tokenizer: Tokenizer, stops: Sequence[str], tokens: Sequence[int]) -> Texts:
    """Of a text that is being drawn, what nothing that comes can change."""
    ended = bool(tokens) and tokens[-1] in tokenizer.eos_ids
    return {"text": certain_text(text_of_tokens(tokenizer, tokens[:-1] if ended else tokens), stops)}


def before_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of the stops in it, and whether there was one."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


def usage_json(prompt: int, drawn: int) -> dict[str, int]:
    """Counts of tokens; the end of a turn counts, as it is drawn."""
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}


def _choice(
    number: int,
    prompt: Sequence[int],
    sequence: SampledSequence,
    response: SampleResponse,
    tokenizer: Tokenizer,
    asked: CompletionRequest,
) -> dict[str, Any]:
    drawn: Sequence[int] = () if asked.max_tokens == 0 else sequence.tokens
    ended = bool(drawn) and drawn[-1] in tokenizer.eos_ids
    text, _ = before_stop(text_of_tokens(tokenizer, drawn[:-1] if ended else drawn), asked.stops)
    return {
        "index": number,
        "text": text_of_tokens(tokenizer, prompt) + text if asked.echo else text,
        "finish_reason": sequence.stop_reason if drawn else "length",
        "logprobs": None if asked.logprobs is None else _logprobs(prompt, drawn, sequence, response, tokenizer, asked),
    }


def _logprobs(
    prompt: Sequence[int],
    drawn: Sequence[int],
    sequence: SampledSequence,
    response: SampleResponse,
    tokenizer: Tokenizer,
    asked: CompletionRequest,
) -> dict[str, Any]:
    tokens: list[int] = list(drawn)
    logprobs: list[float | None] = list(sequence.logprobs[: len(drawn)])
    tops: list[TopLogprobs | None] = [*(sequence.topk_logprobs or ((),) * len(sequence.tokens))][: len(drawn)]
    if asked.echo:
        assert response.prompt_logprobs is not None
        before: Sequence[TopLogprobs | None] = response.topk_prompt_logprobs or (None, *[()] * (len(prompt) - 1))
        tokens, logprobs, tops = [*prompt, *tokens], [*response.prompt_logprobs, *logprobs], [*before, *tops]
    return completion_logprobs(tokens, logprobs, tops, tokenizer)
