"""How does a conversation with a sampled model keep the very tokens that were sampled?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import ModelInput
from crucible.train.messages import Message, Tool
from crucible.train.renderers.renderer import ParsedResponse, Renderer, RewrittenHistory
from crucible.train.renderers.train_on import TrainOn


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledSequence:
    """Tokens as the model saw and sampled them.

    tokens: int64 (N,). sampled: bool (N,), true where the model chose the token. logprobs: float32 (N,), those of the
    sampler, in nats; NaN where the token was not sampled, or none was given.
    """

    tokens: NDArray[np.int64]
    sampled: NDArray[np.bool_]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Part:
    tokens: tuple[int, ...]
    sampled: bool
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A conversation between a sampled model and whoever answers it. A value: each step gives a new one.

    Tokens that were sampled are never written again: to read text out of them and to tokenise that anew may give other
    tokens, which the sampler's logprobs do not belong to. `messages` is a view that is derived from them. What is said
    in between is rendered once, as what follows the last answer. Only where the renderer rewrites history (it strips
    reasoning from it) does a new sequence begin, as the model then sees another text.

    messages: the conversation so far; parsed, where it was sampled. responses: each sampled turn as it was parsed.
    """

    renderer: Renderer
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    responses: tuple[ParsedResponse, ...] = ()
    finished: tuple[tuple[_Part, ...], ...] = ()
    parts: tuple[_Part, ...] = ()

    @classmethod
    def begin(cls, renderer: Renderer, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> "Transcript":
        """A conversation in which the model is to speak next.

        Raises:
            RendererError: if the renderer cannot write it.
        """
        prompt = renderer.build_generation_prompt(messages, tools=tools).to_ints()
        return cls(renderer=renderer, messages=tuple(messages), tools=tuple(tools), parts=(_written(prompt),))

    @property
    def prompt(self) -> ModelInput:
        """What to sample the next turn from."""
        assert self.parts and not self.parts[-1].sampled, "somebody else is to speak"
        return ModelInput.from_ints([token for part in self.parts for token in part.tokens])

    def sampled(self, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> "Transcript":
        """The model said this: kept as it is, and read as a message.

        logprobs: one per token, or none at all.
        """
        assert len(logprobs) in (0, len(tokens)), "each token has a logprob, or none has"
        assert self.parts and not self.parts[-1].sampled, "the model was asked"
        response = self.renderer.parse_response(tokens)
        part = _Part(tokens=tuple(int(token) for token in tokens), sampled=True, logprobs=tuple(logprobs))
        return replace(
            self,
            messages=(*self.messages, response.message),
            responses=(*self.responses, response),
            parts=(*self.parts, part),
        )

    def answered(self, messages: Sequence[Message]) -> "Transcript":
        """Somebody else said this, and the model is to speak next.

        Raises:
            RendererError: if the renderer cannot write it, or cannot write again what it read out of the last turn
                (`responses[-1].ended` is then `malformed`).
        """
        assert self.parts and self.parts[-1].sampled, "the model has spoken"
        said = (*self.messages, *messages)
        prompt = self.renderer.build_generation_prompt(said, tools=self.tools).to_ints()
        begun = _end_of_last_turn(self.renderer, self.messages, self.tools, prompt)
        if begun is None:
            return replace(self, messages=said, finished=(*self.finished, self.parts), parts=(_written(prompt),))
        follows = _written([*self._missing_stop(), *prompt[begun:]])
        return replace(self, messages=said, parts=(*self.parts, follows))

    def sequences(self) -> list[SampledSequence]:
        """Every sequence that has a sampled token, in order; usually one."""
        return [
            _sequence(parts)
            for parts in (*self.finished, self.parts)
            if any(part.sampled and part.tokens for part in parts)
        ]

    def _missing_stop(self) -> list[int]:
        """The renderer's end of turn, if the last turn did not come to it (cut off, or ended with another EOS)."""
        stop = self.renderer.stop_sequences[0]
        close = [stop] if isinstance(stop, int) else self.renderer.tokenizer.encode_ordinary([stop])[0]
        ended = self.responses[-1].ended == "stop" or list(self.parts[-1].tokens[-len(close) :]) == close
        return [] if ended else close


def _end_of_last_turn(
    renderer: Renderer, messages: Sequence[Message], tools: Sequence[Tool], prompt: Sequence[int]
) -> int | None:
    """Where the last of these messages, the assistant's, ends in a longer conversation's prompt; None if it or what
    precedes it stands there otherwise than when it was the last."""
    try:
        example = renderer.build_supervised_example(messages, train_on=TrainOn.LAST_ASSISTANT_MESSAGE, tools=tools)
    except RewrittenHistory:
        return None
    end = example.spans[-1].end
    return end if list(prompt[:end]) == example.tokens[:end].tolist() else None


def _written(tokens: Sequence[int]) -> _Part:
    return _Part(tokens=tuple(tokens), sampled=False)


def _sequence(parts: Sequence[_Part]) -> SampledSequence:
    blank = float("nan")
    return SampledSequence(
        tokens=np.array([token for part in parts for token in part.tokens], dtype=np.int64),
        sampled=np.array([part.sampled for part in parts for _ in part.tokens], dtype=np.bool_),
        logprobs=np.array(
            [value for part in parts for value in part.logprobs or [blank] * len(part.tokens)], dtype=np.float32
        ),
    )
