"""How does a tensor come off the wire, and go onto it? Checked by its lengths before any memory is taken.

A sparse tensor states a shape of its own, which no length of its bytes bounds: what all of a request's sparse tensors
take when written out is bounded by a `Room`.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from crucible.ports.datum import TensorData
from crucible.server.wire import messages_pb2 as wire

MOST_DIMENSIONS = 8
_FLOAT32, _INT64, _INT32 = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.int32)
_BFLOAT16 = np.dtype(np.uint16)
assert sys.byteorder == "little", "packed numbers are read as they lie"
Numbers: TypeAlias = NDArray[np.float32] | NDArray[np.int64]
S = TypeVar("S", bound=np.generic)


class Room:
    """What one request's sparse tensors may take, written out, in bytes."""

    def __init__(self, most: int = 1 << 29) -> None:
        self._most = self._left = most

    def take(self, count: int, *, name: str) -> None:
        """Take the room for `count` numbers of 8 bytes.

        Raises:
            ValueError: if there is not so much left.
        """
        self._left -= 8 * count
        if self._left < 0:
            raise ValueError(f"{name}: this request's sparse tensors take more than {self._most} bytes, written out")


@dataclass(frozen=True, kw_only=True)
class SparseCells:
    """Which cells of a (rows, columns) matrix a sparse tensor names, in order. crow: (rows + 1,); col: (cells,)."""

    crow: NDArray[np.int64]
    col: NDArray[np.int64]
    columns: int

    @classmethod
    def checked(
        cls, crow: NDArray[np.int64], col: NDArray[np.int64], shape: Sequence[int], *, values: int, name: str
    ) -> "SparseCells":
        """The cells, if they are those of a CSR matrix of this shape.

        Raises:
            ValueError: if they are not.
        """
        if len(shape) != 2:
            raise ValueError(f"{name}: a sparse tensor has two dimensions; its shape is {list(shape)}")
        rows, columns = check_shape(shape, name=name)
        wrong = ""
        if len(crow) != rows + 1:
            wrong = f"{len(crow)} row pointers for {rows} rows"
        elif len(col) != values:
            wrong = f"{len(col)} column indices for {values} values"
        elif crow[0] != 0 or crow[-1] != values or bool((crow[1:] < crow[:-1]).any()):
            wrong = f"its row pointers do not go up from 0 to {values}"
        elif values and (int(col.min()) < 0 or int(col.max()) >= columns):
            wrong = f"a column index is not below {columns}"
        if wrong:
            raise ValueError(f"{name}: no sparse tensor: {wrong}")
        return cls(crow=crow, col=col, columns=columns)

    @property
    def rows(self) -> NDArray[np.int64]:
        """(cells,): the row of each cell."""
        return np.repeat(np.arange(len(self.crow) - 1), np.diff(self.crow))

    def filled(self, values: Numbers, *, elsewhere: int, room: Room, name: str) -> TensorData:
        """The matrix, with `elsewhere` in the cells that are not named."""
        room.take((len(self.crow) - 1) * self.columns, name=name)
        matrix = np.full((len(self.crow) - 1, self.columns), elsewhere, dtype=values.dtype)
        matrix[self.rows, self.col] = values
        return TensorData(matrix)


def check_shape(shape: Sequence[int], *, name: str) -> tuple[int, ...]:
    """The shape, if it can be one.

    Raises:
        ValueError: if a dimension is negative, or there are too many.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"{name}: {len(shape)} dimensions; at most {MOST_DIMENSIONS}")
    if any(size < 0 for size in shape):
        raise ValueError(f"{name}: its shape {list(shape)} has a negative size")
    return tuple(shape)


def read_numbers(data: bytes, dtype: int, *, name: str) -> Numbers:
    """Packed numbers as float32 or int64, (n,).

    Raises:
        ValueError: if the dtype is none of ours, or the bytes are not a whole number of items.
    """
    if dtype == wire.DTYPE_FLOAT32:
        return read_packed(data, _FLOAT32, name=name)
    if dtype == wire.DTYPE_INT64:
        return read_packed(data, _INT64, name=name)
    if dtype == wire.DTYPE_INT32:
        return read_packed(data, _INT32, name=name).astype(np.int64)
    if dtype == wire.DTYPE_BFLOAT16:  # the upper half of a float32
        return (read_packed(data, _BFLOAT16, name=name).astype(np.uint32) << 16).view(np.float32)
    raise ValueError(f"{name}: dtype {dtype} is not one of float32, int64, int32 and bfloat16")


def read_packed(data: bytes, kind: np.dtype[S], *, name: str) -> NDArray[S]:
    """The bytes as numbers of one kind.

    Raises:
        ValueError: if the bytes are not a whole number of them.
    """
    if len(data) % kind.itemsize:
        raise ValueError(f"{name}: {len(data)} bytes are not a whole number of items of {kind.itemsize} bytes")
    return np.frombuffer(data, dtype=kind)


def read_tensor(message: wire.Tensor, *, name: str, room: Room) -> TensorData:
    """A tensor off the wire; the cells that a sparse one does not name are 0.

    Raises:
        ValueError: if its parts do not fit together, or it is larger than there is room for.
    """
    if message.HasField("sparse_csr"):
        sparse = message.sparse_csr
        values = read_numbers(sparse.values, message.dtype, name=name)
        cells = SparseCells.checked(
            read_packed(sparse.crow_indices, _INT64, name=name),
            read_packed(sparse.col_indices, _INT64, name=name),
            message.shape,
            values=len(values),
            name=name,
        )
        return cells.filled(values, elsewhere=0, room=room, name=name)
    numbers = read_numbers(message.dense, message.dtype, name=name)
    shape = check_shape(message.shape, name=name) or numbers.shape
    if math.prod(shape) != len(numbers):
        raise ValueError(f"{name}: {len(numbers)} numbers do not make the shape {list(shape)}")
    return TensorData(numbers.reshape(shape))


def tensor_message(tensor: TensorData, *, cells: SparseCells | None = None) -> wire.Tensor:
    """A tensor for the wire: dense, or the named cells of it alone."""
    dtype = wire.DTYPE_FLOAT32 if tensor.dtype == "float32" else wire.DTYPE_INT64
    if cells is None:
        return wire.Tensor(dense=packed(tensor), dtype=dtype, shape=tensor.shape)
    sparse = wire.SparseCsr(
        values=packed(TensorData(tensor.data[cells.rows, cells.col])),
        crow_indices=cells.crow.tobytes(),
        col_indices=cells.col.tobytes(),
    )
    return wire.Tensor(sparse_csr=sparse, dtype=dtype, shape=tensor.shape)


def packed(tensor: TensorData) -> bytes:
    """The tensor's numbers, row by row."""
    return tensor.data.tobytes()
