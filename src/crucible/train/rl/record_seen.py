"""How is an observation written in a record? As what it adds to what the record has already, and exactly.

The attempts of a group mostly begin with one prompt, and a turn mostly goes on where the turn before it ended.
"""

from typing import Literal, TypeAlias

import msgspec

from crucible.ports.datum import EncodedTextChunk, ImageChunk, ModelInput, ModelInputChunk

Tokens: TypeAlias = tuple[int, ...]


class RecordedText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="text"):
    """A chunk of text."""

    tokens: list[int]


class RecordedImage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="image"):
    """An image, its bytes in base64."""

    data: bytes
    format: Literal["png", "jpeg"]
    expected_tokens: int | None = None


class RecordedObservation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """after: what comes before `tokens` in the one chunk of text: nothing, the group's prompt, or the turn before with
    its action. chunks: of an observation that is not one chunk of text."""

    after: Literal["nothing", "prompt", "turn"] = "nothing"
    tokens: list[int] = []
    chunks: list[RecordedText | RecordedImage] | None = None


def only_text(seen: ModelInput) -> Tokens | None:
    """The tokens of an observation that is one chunk of text."""
    only = seen.chunks[0] if len(seen.chunks) == 1 else None
    return only.tokens if isinstance(only, EncodedTextChunk) else None


def record_observation(seen: ModelInput, *, prompt: Tokens | None, before: Tokens | None) -> RecordedObservation:
    """prompt: the group's; before: the turn before, its action included; None where there is none of one chunk."""
    tokens = only_text(seen)
    if tokens is None:
        return RecordedObservation(chunks=[_recorded(one) for one in seen.chunks])
    if before is not None and tokens[: len(before)] == before:
        return RecordedObservation(after="turn", tokens=list(tokens[len(before) :]))
    if prompt is not None and tokens[: len(prompt)] == prompt:
        return RecordedObservation(after="prompt", tokens=list(tokens[len(prompt) :]))
    return RecordedObservation(tokens=list(tokens))


def read_observation(recorded: RecordedObservation, *, prompt: Tokens | None, before: Tokens | None) -> ModelInput:
    """What was recorded, given the same prompt and turn.

    Raises:
        ValueError: if it goes on after something that is not there.
    """
    if recorded.chunks is not None:
        return ModelInput(tuple(_read(one) for one in recorded.chunks))
    start = {"nothing": (), "prompt": prompt, "turn": before}[recorded.after]
    if start is None:
        raise ValueError(f"an observation goes on after a {recorded.after} that is not there")
    return ModelInput((EncodedTextChunk((*start, *recorded.tokens)),))


def _recorded(chunk: ModelInputChunk) -> RecordedText | RecordedImage:
    if isinstance(chunk, EncodedTextChunk):
        return RecordedText(tokens=list(chunk.tokens))
    return RecordedImage(data=chunk.data, format=chunk.format, expected_tokens=chunk.expected_tokens)


def _read(chunk: RecordedText | RecordedImage) -> ModelInputChunk:
    if isinstance(chunk, RecordedText):
        return EncodedTextChunk(tuple(chunk.tokens))
    return ImageChunk(data=chunk.data, format=chunk.format, expected_tokens=chunk.expected_tokens)
