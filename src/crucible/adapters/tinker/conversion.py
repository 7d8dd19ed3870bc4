"""How do datums, inputs and tensors become the SDK's, and the SDK's ours? Nothing is lost either way."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import tinker
from numpy.typing import NDArray
from tinker import types

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput, ModelInputChunk, TensorData
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, OptimStepOutput


def to_tensor(tensor: TensorData) -> types.TensorData:
    """Dense: a sparse form would lose a minus before a zero."""
    return types.TensorData(data=tensor.data.copy(), dtype=tensor.dtype, shape=list(tensor.shape))


def from_tensor(tensor: types.TensorData, *, absent: int = 0) -> TensorData:
    """Dense or sparse (CSR), of any shape. absent: the value of the entries that a sparse one leaves out.

    Raises:
        ValueError: if the values are not as many as the shape says, or a sparse index lies outside it.
    """
    kind = np.float32 if tensor.dtype == "float32" else np.int64
    if tensor.sparse_crow_indices is None:
        values = np.asarray(tensor.to_numpy(), dtype=kind)
        return TensorData(values if tensor.shape is None else values.reshape(tensor.shape))
    return TensorData(_dense(tensor, np.asarray(tensor.data, dtype=kind), absent=absent))


def _dense(tensor: types.TensorData, values: NDArray[np.generic], *, absent: int) -> NDArray[np.generic]:
    """Row r's entries are those from crow[r] to crow[r + 1]."""
    if tensor.shape is None or len(tensor.shape) != 2 or tensor.sparse_col_indices is None:
        raise ValueError("a sparse tensor has two dimensions, row pointers and columns")
    rows, columns = tensor.shape
    crow = np.asarray(tensor.sparse_crow_indices, dtype=np.int64)
    col = np.asarray(tensor.sparse_col_indices, dtype=np.int64)
    counts = np.diff(crow)
    whole = len(crow) == rows + 1 and bool((counts >= 0).all()) and crow[0] == 0 and crow[-1] == len(col) == len(values)
    if not whole or (len(col) > 0 and (col.min() < 0 or col.max() >= columns)):
        raise ValueError(f"the sparse tensor's indices do not fit its shape {tensor.shape}")
    dense = np.full((rows, columns), absent, dtype=values.dtype)
    dense[np.repeat(np.arange(rows), counts), col] = values
    return dense


def to_input(model_input: ModelInput) -> tinker.ModelInput:
    """The same chunks in the same order."""
    return tinker.ModelInput(chunks=[_to_chunk(chunk) for chunk in model_input.chunks])


def _to_chunk(chunk: ModelInputChunk) -> tinker.ModelInputChunk:
    if isinstance(chunk, EncodedTextChunk):
        return tinker.EncodedTextChunk(tokens=chunk.tokens)
    return types.ImageChunk(data=chunk.data, format=chunk.format, expected_tokens=chunk.expected_tokens)


def from_input(model_input: tinker.ModelInput) -> ModelInput:
    """The same chunks in the same order.

    Raises:
        UnsupportedError: if a chunk is neither text nor an image by its bytes.
    """
    return ModelInput(tuple(_from_chunk(chunk) for chunk in model_input.chunks))


def _from_chunk(chunk: tinker.ModelInputChunk) -> ModelInputChunk:
    if isinstance(chunk, tinker.EncodedTextChunk):
        return EncodedTextChunk(tuple(chunk.tokens))
    if isinstance(chunk, types.ImageChunk):
        return ImageChunk(data=chunk.data, format=chunk.format, expected_tokens=chunk.expected_tokens)
    raise UnsupportedError.of("only text and images are taken", given=type(chunk).__name__)


def to_datum(datum: Datum) -> tinker.Datum:
    """The same input and tensors."""
    return tinker.Datum(
        model_input=to_input(datum.model_input),
        loss_fn_inputs={name: to_tensor(tensor) for name, tensor in datum.loss_fn_inputs.items()},
    )


def from_datum(datum: tinker.Datum) -> Datum:
    """The same input and tensors.

    Raises:
        UnsupportedError: if a chunk is neither text nor an image, or the datum says of which samples it is made.
    """
    if datum.model_input_spans is not None:
        raise UnsupportedError.of("provenance spans are not taken")
    tensors = {name: from_tensor(tensor) for name, tensor in datum.loss_fn_inputs.items()}
    return Datum(from_input(datum.model_input), tensors)


def with_weights(datum: Datum, weights: NDArray[np.float32] | None = None) -> Datum:
    """A datum for cross_entropy: with these weights, else with its own, else with ones, which the port says are meant
    where there are none."""
    inputs = dict(datum.loss_fn_inputs)
    if weights is not None:
        inputs["weights"] = TensorData(weights)
    elif "weights" not in inputs and "target_tokens" in inputs:
        inputs["weights"] = TensorData(np.ones(inputs["target_tokens"].shape, dtype=np.float32))
    return Datum(datum.model_input, inputs)


def from_scores(output: tinker.ForwardBackwardOutput) -> ForwardBackwardOutput:
    """The SDK's output of forward and forward_backward."""
    records = cast("Sequence[dict[str, types.TensorData]]", output.loss_fn_outputs)
    return ForwardBackwardOutput(
        loss_fn_output_type=output.loss_fn_output_type,
        loss_fn_outputs=[{name: from_tensor(tensor) for name, tensor in record.items()} for record in records],
        metrics=dict(output.metrics),
    )


def to_adam(params: AdamParams) -> tinker.AdamParams:
    """Field by field."""
    return tinker.AdamParams(
        learning_rate=params.learning_rate,
        beta1=params.beta1,
        beta2=params.beta2,
        eps=params.eps,
        weight_decay=params.weight_decay,
        grad_clip_norm=params.grad_clip_norm,
    )


def from_step(response: tinker.OptimStepResponse) -> OptimStepOutput:
    """Its metrics, where the service gives any."""
    return OptimStepOutput(metrics=dict(response.metrics or {}))
