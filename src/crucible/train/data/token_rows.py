"""How does a row that holds tokens, as they were sampled or prepared elsewhere, become an example? Unchanged."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from crucible.errors import Problem
from crucible.ports.tokenizer import Tokenizer
from crucible.train.data.formats import RowError
from crucible.train.messages import shown
from crucible.train.renderers.renderer import RenderedExample, Span


def example_from_tokens(row: object, tokenizer: Tokenizer) -> RenderedExample:
    """The row's own tokens and weights: nothing is rendered, so nothing can drift from what was sampled. Weights may
    be any finite numbers; that of the first token is set to 0, as nothing predicts it.

    Raises:
        RowError: if a column is missing or is no list of numbers, lengths differ, or an id is no token.
    """
    fields: Mapping[str, Any] = cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else {}
    tokens, weights = _numbers(fields.get("tokens")), _numbers(fields.get("weights"))
    problems = [
        Problem(what=f"the row's {name} is not a list of numbers", where=name, given=shown(fields.get(name)))
        for name, values in (("tokens", tokens), ("weights", weights))
        if values is None
    ]
    if tokens is None or weights is None:
        raise RowError(problems)
    if len(tokens) != len(weights):
        given = f"{len(tokens)} tokens, {len(weights)} weights"
        raise RowError.of("the row has not one weight for each token", given=given)
    wrong = (tokens != np.floor(tokens)) | (tokens < 0) | (tokens >= tokenizer.vocab_size)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise RowError.of(
            "an id is no token of this model",
            where=f"tokens[{at}]",
            given=f"{tokens[at]:g}",
            fix=f"Ids are whole numbers from 0 to {tokenizer.vocab_size - 1}: were the rows made for another model?",
        )
    trained = weights.astype(np.float32)
    trained[:1] = 0.0
    return RenderedExample(tokens=tokens.astype(np.int64), weights=trained, spans=tuple(_runs(trained)))


def _numbers(value: object) -> NDArray[np.float64] | None:
    if not isinstance(value, list | tuple):
        return None
    items = cast("Sequence[object]", value)
    if not items or any(isinstance(item, bool) or not isinstance(item, int | float) for item in items):
        return None
    numbers = np.array(items, dtype=np.float64)
    return numbers if np.isfinite(numbers).all() else None


def _runs(weights: NDArray[np.float32]) -> list[Span]:
    """The runs of tokens that have a weight."""
    borders = np.flatnonzero(np.diff((weights != 0).astype(np.int8), prepend=0, append=0)).tolist()
    return [Span(message=None, start=start, end=end) for start, end in list(pairwise(borders))[::2]]
