"""Does a datum fit the loss and the model? Checked for all datums before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crucible.engine.losses import Loss
from crucible.errors import DataError, Problem, UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk, TensorData


@dataclass(frozen=True, kw_only=True)
class Row:
    """One checked datum: N token ids; target ids and the loss's float inputs, (N,) or, K at each position, (N, K).

    active: (N,), the positions that can have a loss.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    inputs: Mapping[str, NDArray[np.float32]]
    active: NDArray[np.bool_]


def rows_of(datums: Sequence[Datum], loss: Loss, *, vocab_size: int, context_length: int | None) -> list[Row]:
    """The datums as arrays.

    Raises:
        UnsupportedError: if a datum holds an image.
        DataError: naming every datum that lacks a tensor or has one that the loss does not read (it would change
            nothing, and whoever gave it thinks that it does), has unequal shapes, ids outside the vocabulary, numbers
            that are not finite, or more tokens than the model's context.
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
    targets = given["target_tokens"].data.astype(np.int64)
    inputs = {
        name: given[name].data.astype(np.float32) if name in given else np.full(targets.shape, default, np.float32)
        for name, default in loss.inputs.items()
    }
    active = np.asarray(loss.active(inputs).reshape(len(tokens), -1).any(axis=1))
    return Row(tokens=tokens, targets=targets, inputs=inputs, active=active)


def _complaints(datum: Datum, loss: Loss, vocab_size: int, context_length: int | None) -> list[str]:
    """What is wrong with one datum, each as a sentence without its full stop."""
    tokens = datum.model_input.to_ints()
    complaints: list[str] = []
    if not tokens:
        complaints.append("the sequence has no tokens")
    if context_length is not None and len(tokens) > context_length:
        complaints.append(f"the sequence has {len(tokens)} tokens, and the model's context is {context_length}")
    if tokens and not 0 <= min(tokens) <= max(tokens) < vocab_size:
        complaints.append(f"an input token is outside the vocabulary of {vocab_size}")
    return [*complaints, *_tensor_complaints(datum.loss_fn_inputs, loss, len(tokens), vocab_size)]


def _tensor_complaints(given: Mapping[str, TensorData], loss: Loss, count: int, vocab_size: int) -> list[str]:
    """What is wrong with the tensors of a sequence of `count` tokens."""
    names = ("target_tokens", *loss.inputs)
    reads = f"(it reads {', '.join(names)})"
    complaints = [f"loss_fn_inputs lacks {name!r}" for name in names if name not in given and not _default(loss, name)]
    complaints += [
        f"loss_fn_inputs holds {name!r}, which this loss does not read {reads}" for name in sorted({*given} - {*names})
    ]
    shape = given["target_tokens"].shape if "target_tokens" in given else (count,)
    for name in (name for name in names if name in given):
        data = given[name].data
        if data.shape[:1] != (count,):
            complaints.append(f"{name!r} has shape {data.shape}, and the sequence has {count} tokens")
        elif name != "target_tokens":
            if data.shape != shape:
                complaints.append(f"{name!r} has shape {data.shape}, and 'target_tokens' has shape {shape}")
            elif not np.isfinite(data).all():
                complaints.append(f"{name!r} holds a number that is not finite")
        elif not _is_shape(data.shape, topk=loss.topk):
            shapes = "(N,) or (N, K)" if loss.topk else "(N,)"
            complaints.append(f"{name!r} has shape {data.shape}, and this loss takes {shapes}")
        elif data.dtype != np.int64:
            complaints.append(f"{name!r} holds {data.dtype} numbers, not token ids")
        elif data.size and not 0 <= data.min() <= data.max() < vocab_size:
            complaints.append(f"a target token is outside the vocabulary of {vocab_size}")
    mask = given.get(loss.sequence_ratio or "")
    if not complaints and mask is not None and not mask.data.any() and given["advantages"].data.any():
        complaints.append(f"{loss.sequence_ratio!r} marks no position, so the sequence has no ratio")
    return complaints


def _default(loss: Loss, name: str) -> bool:
    return loss.inputs.get(name) is not None


def _is_shape(shape: tuple[int, ...], *, topk: bool) -> bool:
    """Whether it is that of `target_tokens`: (N,), or where several are taken (N, K)."""
    return len(shape) == 1 or (topk and len(shape) == 2 and shape[1] > 0)
