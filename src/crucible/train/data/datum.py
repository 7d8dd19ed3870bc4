"""How does a rendered example become what a training backend takes?"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from crucible.ports.datum import Datum, EncodedTextChunk, ModelInput, TensorData
from crucible.train.renderers.renderer import RenderedExample

Reduction: TypeAlias = Literal["mean", "sum"]
"""`mean`: the weights of each example sum to 1, so that each example counts the same (tinker-cookbook's
default for supervised training). `sum`: they stay 0 and 1, so that each token counts the same."""


@dataclass(frozen=True, kw_only=True)
class BuiltDatum:
    """A datum and what was lost on the way to it.

    datum: None if no trained token is left.
    tokens: the example's tokens, before the cut; trained_tokens: those trained, after it.
    cut_tokens, cut_trained_tokens: what `max_length` took away.
    """

    datum: Datum | None
    tokens: int
    trained_tokens: int
    cut_tokens: int
    cut_trained_tokens: int


def datum_from_example(
    example: RenderedExample, *, max_length: int | None = None, reduction: Reduction = "mean"
) -> BuiltDatum:
    """Shift by one: inputs `tokens[:-1]`, `target_tokens` int64 `tokens[1:]`, `weights` float32 `weights[1:]`.

    max_length: the most tokens kept of the example, counted before the shift (so at most max_length - 1
        positions); what follows is cut off.
    """
    assert max_length is None or max_length > 0, "max_length is positive"
    length = len(example.tokens)
    kept = length if max_length is None else min(length, max_length)
    weights = example.weights[1:kept]
    trained = int((weights != 0).sum())
    datum = None
    if trained:
        scale = trained if reduction == "mean" else 1
        datum = Datum(
            ModelInput((EncodedTextChunk(tuple(example.tokens[: kept - 1].tolist())),)),
            {"target_tokens": TensorData(example.tokens[1:kept].copy()), "weights": TensorData(weights / scale)},
        )
    return BuiltDatum(
        datum=datum,
        tokens=length,
        trained_tokens=trained,
        cut_tokens=length - kept,
        cut_trained_tokens=int((example.weights[kept:] != 0).sum()),
    )
