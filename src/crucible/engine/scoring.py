"""What are the scores of a call's rows, micro-batch by micro-batch?"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crucible.engine.lora import LoraAdapter
from crucible.engine.loss_metrics import loss_metrics
from crucible.engine.losses import Loss
from crucible.engine.micro_batch import Batch, score_batch
from crucible.engine.model import LoadedModel
from crucible.engine.rows import Row
from crucible.engine.shared_prompts import plan
from crucible.errors import DataError, Problem
from crucible.ports.training_client import LogprobsWanted


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Per row: logprobs, NaN where not computed, and elementwise losses, of its targets' shape, float32.

    metrics: see `loss_metrics`.
    gradients: of `adapter.parameters`, float32, summed over rows; None without a backward.
    """

    logprobs: Sequence[NDArray[np.float32]]
    losses: Sequence[NDArray[np.float32]]
    metrics: Mapping[str, float]
    gradients: Sequence[Tensor] | None

    @property
    def total_loss(self) -> float:
        """The sum-reduced loss."""
        return self.metrics["loss:sum"]


def scoring_steps(
    loaded: LoadedModel,
    adapter: LoraAdapter,
    rows: Sequence[Row],
    *,
    loss: Loss,
    config: Mapping[str, float],
    wanted: LogprobsWanted,
    backward: bool,
    token_budget: int,
) -> Generator[None, None, Scores]:
    """Score rows under `adapter`; with `backward`, differentiate the summed loss by its parameters.

    Yields between two micro-batches, where the model may do other work and the generator may be closed; what it
    returns is the scores. The adapter's weights must stay as they are until then.

    Raises:
        DataError: naming the rows whose loss is no finite number although their logprobs are.
    """
    tally = Tally(adapter, rows, loss=loss, config=config, backward=backward)
    planned = plan(rows, loss=loss, wanted=wanted, can_share=loaded.shares)
    for number, run in enumerate(planned.runs(token_budget)):
        if number:
            yield
        batch = Batch(planned.taken(run), device=loaded.device)
        with loaded.active.use(adapter):
            scored = score_batch(
                loaded, adapter, batch, loss=loss, config=config, wanted=wanted, gradients=tally.gradients
            )
        tally.put(run, batch, logprobs=scored[0], losses=scored[1])
        del batch, scored  # their memory is other work's between two micro-batches
    return tally.scores()


class Tally:
    """What is known so far of a call's rows.

    gradients: of `adapter.parameters`, to add to; None without a backward.
    """

    def __init__(
        self, adapter: LoraAdapter, rows: Sequence[Row], *, loss: Loss, config: Mapping[str, float], backward: bool
    ) -> None:
        self._rows, self._loss, self._config = rows, loss, config
        self.gradients = [torch.zeros_like(parameter) for parameter in adapter.parameters] if backward else None
        self._logprobs = [np.full(row.targets.shape, np.nan, np.float32) for row in rows]
        self._losses = [np.zeros(row.targets.shape, np.float32) for row in rows]

    def put(
        self, run: Sequence[int], batch: Batch, *, logprobs: NDArray[np.float32], losses: NDArray[np.float32]
    ) -> None:
        """Take the scores of a batch that is made of the rows with these indices."""
        for index, span in zip(run, batch.packing.spans, strict=True):
            self._logprobs[index][:] = _span(logprobs, span, like=self._rows[index].targets)
            self._losses[index][:] = _span(losses, span, like=self._rows[index].targets)

    def scores(self) -> Scores:
        """The scores, every row being put.

        Raises:
            DataError: naming the rows whose loss is no finite number although their logprobs are.
        """
        _check_finite(self._logprobs, self._losses)
        metrics = loss_metrics(
            self._rows, loss=self._loss, config=self._config, logprobs=self._logprobs, losses=self._losses
        )
        return Scores(logprobs=self._logprobs, losses=self._losses, metrics=metrics, gradients=self.gradients)


def _span(values: NDArray[np.float32], span: tuple[int, int], *, like: NDArray[np.int64]) -> NDArray[np.float32]:
    """One row's values, of its targets' shape: a micro-batch is as wide as its widest row."""
    own = values[slice(*span)]
    return own if own.ndim == 1 else own[:, : like[0].size].reshape(like.shape)


def _check_finite(logprobs: Sequence[NDArray[np.float32]], losses: Sequence[NDArray[np.float32]]) -> None:
    what = "the loss is no finite number: the ratio of the model's and the sampler's probabilities, or a weight, is"
    wrong = [
        Problem(what=f"{what} beyond float32 at position {int(np.argwhere(bad)[0][0])}", where=f"datum {index}")
        for index, (row_logprobs, row_losses) in enumerate(zip(logprobs, losses, strict=True))
        if (bad := np.isfinite(row_logprobs) & ~np.isfinite(row_losses)).any()
    ]
    if wrong:
        raise DataError(wrong)
