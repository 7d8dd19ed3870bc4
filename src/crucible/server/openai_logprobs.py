"""How are logprobs told in OpenAI's two forms? Under the model's own distribution, whatever the temperature."""

import math
from collections.abc import Sequence
from typing import Any

from crucible.ports.sampling_client import SampledSequence, TopLogprobs
from crucible.ports.tokenizer import Tokenizer

_LOWEST = -9999.0  # JSON has no infinity; OpenAI's own number for a token that cannot be


def text_of_tokens(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Their text. A model may have more rows than its tokenizer has tokens; what it draws of those has no text."""
    return tokenizer.decode([token for token in tokens if 0 <= token < tokenizer.vocab_size])


def chat_logprobs(sequence: SampledSequence, tokenizer: Tokenizer) -> dict[str, Any]:
    """Of every token that was drawn, the end of the turn included."""
    tops = sequence.topk_logprobs or ((),) * len(sequence.tokens)
    content = [
        _told(tokenizer, token, logprob) | {"top_logprobs": [_told(tokenizer, *one) for one in top]}
        for token, logprob, top in zip(sequence.tokens, sequence.logprobs, tops, strict=True)
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    tokens: Sequence[int],
    logprobs: Sequence[float | None],
    tops: Sequence[TopLogprobs | None],
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Of the tokens of a completion, or of an echoed prompt and its completion. text_offset: where each token's text
    begins in that of all of them."""
    texts = [_named(tokenizer, token) for token in tokens]
    offsets, reached = list[int](), 0
    for text in texts:
        offsets.append(reached)
        reached += len(text)
    told = [None if top is None else {_named(tokenizer, token): _finite(lp) for token, lp in top} for top in tops]
    return {
        "tokens": texts,
        "token_logprobs": [None if logprob is None else _finite(logprob) for logprob in logprobs],
        "top_logprobs": told,
        "text_offset": offsets,
    }


def _told(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    text = _named(tokenizer, token)
    whole = "\ufffd" not in text  # else the token is a part of a character, and which bytes it is is not known here
    return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode()) if whole else None}


def _named(tokenizer: Tokenizer, token: int) -> str:
    """A token's text, or its number where it has none."""
    return tokenizer.decode([token]) if 0 <= token < tokenizer.vocab_size else f"token_id:{token}"


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LOWEST
