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
        found = [(each, each.adapter.layers.get(layer.layer_name)) for each in self._applied]
        here = [(each, matrices) for each, matrices in found if matrices is not None]
        if here:
            y = self._with(y, rows, input, here)
        return y.view(*input.shape[:-1], -1)

    def _with(self, y: Tensor, rows: Tensor, given: Tensor, applied: Sequence[tuple[Applied, LoraMatrices]]) -> Tensor:
        """y (N, O), to which each row gains its adapter's product."""
        first, matrices = applied[0]
        if first.cast:
            a, b = matrices.a.detach().to(y.dtype), matrices.b.detach().to(y.dtype)
            return y.addmm_(rows @ a.t(), b.t(), alpha=first.adapter.scale)
        x32, y32 = self._float32(given, rows), y.float()
        result = y32
        for each, matrices in applied:
            z = self.add(y32, x32, matrices, each.adapter)
            result = z if each.rows is None else torch.where(each.rows, z, result)
        return result.to(y.dtype)

    def add(self, y: Tensor, x: Tensor, matrices: LoraMatrices, adapter: LoraAdapter) -> Tensor:
        """y + s (x A^T) B^T, all float32: (N, O), (N, I) -> (N, O)."""
        a_t, b_t = matrices.a.detach().t(), matrices.b.detach().t()
        if adapter.rank in self.one_by_one:
            each = zip(y.split(1), x.split(1), strict=True)
            return torch.cat([torch.addmm(y1, x1 @ a_t, b_t, alpha=adapter.scale) for y1, x1 in each])
        return torch.addmm(y, x @ a_t, b_t, alpha=adapter.scale)

    def _float32(self, given: Tensor, rows: Tensor) -> Tensor:
        """The rows in float32. Layers that share an input come one after the other: it is converted once."""
        if rows.dtype == torch.float32:
            return rows
        if self._input is not given or self._input_f32 is None:
            self._input, self._input_f32 = given, rows.float()
        return self._input_f32
