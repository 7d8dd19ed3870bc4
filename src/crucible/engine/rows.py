"""Does a datum fit the loss and the model? Checked for all datums before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crucible.engine.losses import Loss
from crucible.errors import DataError, Problem, UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk


@dataclass(frozen=True, kw_only=True)
class Row:
    """One checked datum: N token ids, N target ids, and the loss's float inputs, N each.

    active: the positions that can have a loss.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    inputs: Mapping[str, NDArray[np.float32]]
    active: NDArray[np.bool_]


def rows_of(datums: Sequence[Datum], loss: Loss, *, vocab_size: int, context_length: int | None) -> list[Row]:
    """The datums as arrays.

    Raises:
        UnsupportedError: if a datum holds an image.
        DataError: naming every datum that lacks a tensor, has unequal lengths, ids outside the vocabulary,
            numbers that are not finite, or more tokens than the model's context.
    """
    images = [i for i, datum in enumerate(datums) if not _is_text(datum)]
    if images:
        what = "the datum holds a chunk that is not text, which this engine cannot train on"
        raise UnsupportedError([Problem(what=what, where=f"datum {index}") for index in images])
    problems: list[Problem] = []
    rows: list[Row] = []
    for index, datum in enumerate(datums):
        complaints = _complaints(datum, loss, vocab_size, context_length)
        problems += [Problem(what=what, where=f"datum {index}") for what in complaints]
        if not complaints:
            rows.append(_row(datum, loss))
    if problems:
        raise DataError(problems)
    return rows


def _is_text(datum: Datum) -> bool:
    return all(isinstance(chunk, EncodedTextChunk) for chunk in datum.model_input.chunks)


def _row(datum: Datum, loss: Loss) -> Row:
    tokens = np.asarray(datum.model_input.to_ints(), dtype=np.int64)
    given = datum.loss_fn_inputs
    inputs = {
        name: given[name].data.astype(np.float32) if name in given else np.full(len(tokens), default, np.float32)
        for name, default in loss.inputs.items()
    }
    targets = given["target_tokens"].data.astype(np.int64)
    return Row(tokens=tokens, targets=targets, inputs=inputs, active=loss.active(inputs))


def _complaints(datum: Datum, loss: Loss, vocab_size: int, context_length: int | None) -> list[str]:
    """What is wrong with one datum, each as a sentence without its full stop."""
    given = datum.loss_fn_inputs
    tokens = datum.model_input.to_ints()
    complaints: list[str] = []
    if not tokens:
        complaints.append("the sequence has no tokens")
    if context_length is not None and len(tokens) > context_length:
        complaints.append(f"the sequence has {len(tokens)} tokens, and the model's context is {context_length}")
    if tokens and not 0 <= min(tokens) <= max(tokens) < vocab_size:
        complaints.append(f"an input token is outside the vocabulary of {vocab_size}")
    for name in ("target_tokens", *loss.inputs):
        if name not in given:
            if loss.inputs.get(name) is None:
                complaints.append(f"loss_fn_inputs lacks {name!r}")
            continue
        data = given[name].data
        if data.shape != (len(tokens),):
            complaints.append(f"{name!r} has shape {data.shape}, and the sequence has {len(tokens)} tokens")
        elif name == "target_tokens":
            if data.dtype != np.int64:
                complaints.append(f"{name!r} holds {data.dtype} numbers, not token ids")
            elif len(data) and not 0 <= data.min() <= data.max() < vocab_size:
                complaints.append(f"a target token is outside the vocabulary of {vocab_size}")
        elif not np.isfinite(data).all():
            complaints.append(f"{name!r} holds a number that is not finite")
    return complaints
