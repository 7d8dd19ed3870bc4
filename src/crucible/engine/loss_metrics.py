"""What does a call report of its loss? Metrics that stay right when a client merges those of a request's parts.

Keys are `name:reduction`. The SDK adds up `sum`s and takes `min` and `max` of the parts; its `mean` weighs each part by
its number of datums, which is right for no number per token: there is none here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crucible.engine.losses import HIGH, LOW, Loss, LossConfig
from crucible.engine.rows import Row


def loss_metrics(
    rows: Sequence[Row],
    *,
    loss: Loss,
    config: LossConfig,
    logprobs: Sequence[NDArray[np.float32]],
    losses: Sequence[NDArray[np.float32]],
) -> Mapping[str, float]:
    """`loss:sum`, added up in float64. Of a loss with a ratio, over the targets that can have a loss: their number
    `targets:sum`, `ratio:min` and `ratio:max` (neither without such a target), and where the ratio is clipped, how many
    are outside the thresholds: `outside_clip:sum`.

    logprobs, losses: of the rows, as in `Scores`.
    """
    metrics = {"loss:sum": float(sum(row.sum(dtype=np.float64) for row in losses))}
    if "logprobs" not in loss.inputs:
        return metrics
    parts = [_ratios(row, loss, own) for row, own in zip(rows, logprobs, strict=True)]
    ratios = np.concatenate([np.zeros(0), *parts])
    metrics["targets:sum"] = float(len(ratios))
    if len(ratios):
        metrics |= {"ratio:min": float(ratios.min()), "ratio:max": float(ratios.max())}
    if LOW in config:
        metrics["outside_clip:sum"] = float(((ratios < config[LOW]) | (ratios > config[HIGH])).sum())
    return metrics


def _ratios(row: Row, loss: Loss, logprobs: NDArray[np.float32]) -> NDArray[np.float64]:
    """The ratio of each target that can have a loss, in one dimension."""
    drift = logprobs.astype(np.float64) - row.inputs["logprobs"]
    counted = loss.active(row.inputs)
    if loss.sequence_ratio is not None and counted.any():
        drift = np.full(drift.shape, drift[row.inputs[loss.sequence_ratio] != 0].mean())
    with np.errstate(over="ignore"):  # such a ratio is infinite, and says so
        return np.exp(drift[counted])
