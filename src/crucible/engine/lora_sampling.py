# pyright: standard
# (hands torch tensors between the engine's parts)
"""How do the linear layers compute while the model samples, when slots may hold different adapters?

Each row's product is that of the base weights, plus that of the row's own adapter in float32: y + s (x A^T) B^T, the
trainer's formula on the trainer's matrices. Nothing is merged, so an adapter costs no copy of the model. It is applied
to all rows, which keeps the shapes constant, and kept for the rows that it is for: a row has the same bits whatever
other adapters are live.

Shapes: N rows, I in, O out, R rank.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from crucible.engine.lora import LoraAdapter, LoraLinear, LoraMatrices
from crucible.engine.packed_linear import PackedWeights


@dataclass(frozen=True, kw_only=True)
class Applied:
    """An adapter and the rows that it is for: bool (N, 1), or None for all.

    cast: multiply in the model's dtype, as the trainer does. Faster for the many rows of a prompt.
    """

    adapter: LoraAdapter
    rows: Tensor | None = None
    cast: bool = False


class SamplingLinears:
    """The layers' products under the adapters given to `apply`.

    one_by_one: ranks whose matrices are multiplied row by row, since these kernels give a row of a larger batch bits
        that depend on the batch.
    """

    def __init__(self, packed: PackedWeights) -> None:
        self.packed = packed
        self.one_by_one: frozenset[int] = frozenset()
        self._applied: Sequence[Applied] = ()
        self._input: Tensor | None = None
        self._input_f32: Tensor | None = None

    @contextmanager
    def applying(self, applied: Sequence[Applied]) -> Generator[None]:
        """Within: rows are computed under these adapters, and under the base model where there is none."""
        self._applied = applied
        try:
            yield
        finally:
            self._applied, self._input, self._input_f32 = (), None, None

    def product(self, layer: LoraLinear, input: Tensor) -> Tensor:  # noqa: A002  (torch's own name)
        """(..., I) -> (..., O)."""
        rows = input.reshape(-1, layer.in_features)
        y = self.packed.product(layer, rows)
        result: Tensor | None = None
        for each in self._applied:
            matrices = each.adapter.layers.get(layer.layer_name)
            if matrices is None:
                continue
            if each.cast:
                y = _add_cast(y, rows, matrices, each.adapter)
            elif each.rows is None:
                result = self.add_(y.float(), self._float32(input, rows), matrices, each.adapter)
            else:
                z = self.add_(y.to(torch.float32, copy=True), self._float32(input, rows), matrices, each.adapter)
                result = torch.where(each.rows, z, y if result is None else result)
        return (y if result is None else result.to(y.dtype)).view(*input.shape[:-1], -1)

    def add_(self, y: Tensor, x: Tensor, matrices: LoraMatrices, adapter: LoraAdapter) -> Tensor:
        """y + s (x A^T) B^T, in y's place, all float32: (N, O), (N, I) -> (N, O)."""
        a_t, b_t = matrices.transposed
        if adapter.rank in self.one_by_one:
            for y1, x1 in zip(y.split(1), x.split(1), strict=True):
                y1.addmm_(x1 @ a_t, b_t, alpha=adapter.scale)
            return y
        return y.addmm_(x @ a_t, b_t, alpha=adapter.scale)

    def _float32(self, given: Tensor, rows: Tensor) -> Tensor:
        """The rows in float32. Layers that share an input come one after the other: it is converted once."""
        if rows.dtype == torch.float32:
            return rows
        if self._input is not given or self._input_f32 is None:
            self._input, self._input_f32 = given, rows.float()
        return self._input_f32


def _add_cast(y: Tensor, x: Tensor, matrices: LoraMatrices, adapter: LoraAdapter) -> Tensor:
    """y (N, O), overwritten, plus the adapter's product in its dtype, as the trainer has it."""
    a_t, b_t = (each.to(y.dtype) for each in matrices.transposed)
    return y.addmm_(x @ a_t, b_t, alpha=adapter.scale)
