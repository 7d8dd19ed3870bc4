"""How does a rendered example become what a training backend takes?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crucible.ports.datum import Datum, EncodedTextChunk, ModelInput, TensorData
from crucible.train.renderers.renderer import RenderedExample

Reduction: TypeAlias = Literal["mean", "sum"]
"""`mean`: the weights of each row sum to 1, so that each row counts the same (tinker-cookbook's
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
    return data_from_examples([example], max_length=max_length, reduction=reduction)[0]


def data_from_examples(
    examples: Sequence[RenderedExample], *, max_length: int | None = None, reduction: Reduction = "mean"
) -> list[BuiltDatum]:
    """One row's examples as datums, see `datum_from_example`; with `mean`, their weights sum to 1 together."""
    assert max_length is None or max_length > 0, "max_length is positive"
    kept = [len(example.tokens) if max_length is None else min(len(example.tokens), max_length) for example in examples]
    trained = [int((example.weights[1:end] != 0).sum()) for example, end in zip(examples, kept, strict=True)]
    scale = sum(trained) if reduction == "mean" else 1
    return [
        BuiltDatum(
            datum=_datum(example, end, scale) if count else None,
            tokens=len(example.tokens),
            trained_tokens=count,
            cut_tokens=len(example.tokens) - end,
            cut_trained_tokens=int((example.weights[end:] != 0).sum()),
        )
        for example, end, count in zip(examples, kept, trained, strict=True)
    ]


def _datum(example: RenderedExample, end: int, scale: int) -> Datum:
    return Datum(
        ModelInput((EncodedTextChunk(tuple(example.tokens[: end - 1].tolist())),)),
        {
            "target_tokens": TensorData(example.tokens[1:end].copy()),
            "weights": TensorData(example.weights[1:end] / scale),
        },
    )
