"""Which sequences of tokens does a trajectory come to, and where in them are its turns?

The same cut as that of `assembly`: a turn whose observation begins with all that was seen and done before it goes on
in the same sequence. Here every trajectory has its sequences, trained on or not, images and failures included.
"""

from dataclasses import dataclass, field

from crucible.ports.datum import EncodedTextChunk, ImageChunk, ModelInput
from crucible.train.rl.types import Trajectory
from crucible.train.token_record import NO_TEXT


@dataclass(frozen=True, kw_only=True)
class TurnPlace:
    """Where a turn stands in its sequence: new of its observation are the tokens from `seen` to `acted`, its action
    those from `acted` to `end`."""

    turn: int
    seen: int
    acted: int
    end: int


@dataclass(kw_only=True)
class Part:
    """A sequence of N tokens, as it grows. logprobs: N, the sampler's; None where nothing was sampled.

    number: which of the member's datums it would be (`RLDatum.part`); None if nothing was sampled in it.
    """

    number: int | None = None
    tokens: list[int] = field(default_factory=list[int])
    logprobs: list[float | None] = field(default_factory=list[float | None])
    turns: list[TurnPlace] = field(default_factory=list[TurnPlace])


def parts_of(trajectory: Trajectory) -> list[Part]:
    """The trajectory's sequences, in order; every turn is in one of them."""
    parts: list[Part] = []
    for turn, transition in enumerate(trajectory.transitions):
        observed, action = tokens_of(transition.observation), transition.action
        if not parts or observed[: len(parts[-1].tokens)] != parts[-1].tokens:
            parts.append(Part())
        part = parts[-1]
        new = observed[len(part.tokens) :]
        place = TurnPlace(turn=turn, seen=len(part.tokens), acted=len(observed), end=len(observed) + len(action.tokens))
        part.turns.append(place)
        part.tokens += [*new, *action.tokens]
        part.logprobs += [*[None] * len(new), *action.logprobs]
    for number, part in enumerate(one for one in parts if any(place.end > place.acted for place in one.turns)):
        part.number = number
    return parts


def tokens_of(seen: ModelInput) -> list[int]:
    """The tokens of an observation, `NO_TEXT` for each position of an image (for one whose size is not known, one)."""
    tokens: list[int] = []
    for chunk in seen.chunks:
        if isinstance(chunk, EncodedTextChunk):
            tokens += chunk.tokens
        else:
            tokens += [NO_TEXT] * _positions(chunk)
    return tokens


def _positions(chunk: ImageChunk) -> int:
    return 1 if chunk.expected_tokens is None else chunk.expected_tokens
