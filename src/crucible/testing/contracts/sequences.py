"""What do the training suites train on? Short datums of a tokenizer's ids, and how their outputs compare."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput

WAIT = 120.0
"""Seconds that a suite waits for one future: enough for a first load on a busy machine."""

STEP = AdamParams(learning_rate=1e-2, eps=1e-3)
"""One update. eps is far above rounding noise, so that two ways to one gradient give one update."""


def some_ids(tokenizer: Tokenizer, count: int, *, start: int = 3) -> list[int]:
    """`count` ids, spread over the vocabulary."""
    return [(start + 7 * place) % tokenizer.vocab_size for place in range(count)]


def datum(ids: Sequence[int], *, weights: Sequence[float] | None = None) -> Datum:
    """The datum that predicts `ids[1:]` from `ids[:-1]`; `weights` (N,), one per target."""
    tensors = {"target_tokens": TensorData(ids[1:])}
    if weights is not None:
        tensors["weights"] = TensorData(np.asarray(weights, dtype=np.float32))
    return Datum(ModelInput.from_ints(ids[:-1]), tensors)


def with_tensor(example: Datum, name: str, values: Sequence[float] | Sequence[int]) -> Datum:
    """The datum with one tensor replaced."""
    return Datum(example.model_input, {**example.loss_fn_inputs, name: TensorData(values)})


def array(output: ForwardBackwardOutput, index: int, name: str = "logprobs") -> NDArray[Any]:
    """One tensor of one datum's output."""
    return output.loss_fn_outputs[index][name].data


def fingerprint(outputs: Sequence[ForwardBackwardOutput]) -> list[object]:
    """Everything that outputs say, to be compared to the bit."""
    return [
        (
            dict(output.metrics),
            [{name: tensor.data.tobytes() for name, tensor in item.items()} for item in output.loss_fn_outputs],
        )
        for output in outputs
    ]
