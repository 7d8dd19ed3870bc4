"""What travels to a training or sampling backend? Tinker's wire types, with numpy inside.

Names are those of the `tinker` SDK. A `Datum` is one sequence: `model_input` of N tokens, and
`loss_fn_inputs` whose arrays have N rows: position t of `target_tokens`, `weights`, `logprobs` and
`advantages` speaks of the token that follows input token t (inputs are `tokens[:-1]`, targets `tokens[1:]`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

DType: TypeAlias = Literal["float32", "int64"]


class TensorData:
    """A dense tensor on the wire: row-major, float32 or int64.

    Other dtypes are converted: floating kinds to float32, integer and boolean kinds to int64.

    Raises:
        TypeError: if the data is neither numeric nor boolean.
    """

    __slots__ = ("data",)
    data: NDArray[np.float32] | NDArray[np.int64]

    def __init__(self, data: ArrayLike) -> None:
        array = np.asarray(data)
        if array.dtype.kind == "f":
            self.data = np.ascontiguousarray(array, dtype=np.float32).view()
        elif array.dtype.kind in "iub":
            self.data = np.ascontiguousarray(array, dtype=np.int64).view()
        else:
            raise TypeError(f"a tensor holds numbers; got dtype {array.dtype}")
        self.data.setflags(write=False)  # the view is ours; the caller's own array stays as it was

    @property
    def dtype(self) -> DType:
        """`float32` or `int64`."""
        return "float32" if self.data.dtype == np.float32 else "int64"

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.data.shape

    def tolist(self) -> list[float] | list[int]:
        """The values as nested Python lists."""
        return self.data.tolist()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TensorData):
            return NotImplemented
        return self.dtype == other.dtype and np.array_equal(self.data, other.data, equal_nan=True)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  (holds an array)

    def __repr__(self) -> str:
        return f"TensorData({self.dtype}, shape={self.shape})"


@dataclass(frozen=True)
class EncodedTextChunk:
    """A run of token ids."""

    tokens: tuple[int, ...]

    @property
    def length(self) -> int:
        """Number of positions that the chunk takes in the model's input."""
        return len(self.tokens)


@dataclass(frozen=True)
class ImageChunk:
    """An encoded image. `expected_tokens` is the number of positions it takes, where the model fixes it."""

    data: bytes
    format: Literal["png", "jpeg"]
    expected_tokens: int | None = None

    @property
    def length(self) -> int:
        """Number of positions that the chunk takes.

        Raises:
            ValueError: if `expected_tokens` was not given.
        """
        if self.expected_tokens is None:
            raise ValueError("this image's token count is not known: give expected_tokens")
        return self.expected_tokens


ModelInputChunk: TypeAlias = EncodedTextChunk | ImageChunk


@dataclass(frozen=True)
class ModelInput:
    """A model's input: chunks in order."""

    chunks: tuple[ModelInputChunk, ...]

    @classmethod
    def from_ints(cls, tokens: Sequence[int]) -> "ModelInput":
        """One text chunk."""
        return cls((EncodedTextChunk(tuple(int(token) for token in tokens)),))

    @property
    def length(self) -> int:
        """Number of positions."""
        return sum(chunk.length for chunk in self.chunks)

    def to_ints(self) -> list[int]:
        """The token ids.

        Raises:
            ValueError: if a chunk is not text.
        """
        tokens: list[int] = []
        for chunk in self.chunks:
            if not isinstance(chunk, EncodedTextChunk):
                raise ValueError(f"a {type(chunk).__name__} has no token ids")
            tokens.extend(chunk.tokens)
        return tokens


@dataclass(frozen=True, eq=False)
class Datum:
    """One training sequence.

    model_input: N positions.
    loss_fn_inputs: the loss's tensors, by Tinker's names; each has N rows.
    """

    model_input: ModelInput
    loss_fn_inputs: Mapping[str, TensorData]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Datum):
            return NotImplemented
        return self.model_input == other.model_input and dict(self.loss_fn_inputs) == dict(other.loss_fn_inputs)

    __hash__ = None  # pyright: ignore[reportAssignmentType]  (holds arrays)
