"""What is in a data set, before it costs anything: how many tokens, how many trained, and what is lost and why?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from crucible.errors import DataError, Problem
from crucible.train.data.dropped import DropCount, Dropped, problems_of
from crucible.train.data.supervised import SupervisedDataset


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens per rendered example, before `max_length`: least, middle, 95th percentile (nearest rank), most."""

    min: int
    median: int
    p95: int
    max: int


@dataclass(frozen=True, kw_only=True)
class DataSurvey:
    """What the first `surveyed` of `rows` rows come to.

    usable: rows that are trained on; rendered: those, and the ones that rendered but keep no trained token.
    datums: what the usable rows become: one each, or several where a row's history is rewritten.
    tokens: of the rendered examples, before the cut = tokens_kept + tokens_truncated + tokens_dropped.
        tokens_kept: of the datums, after the cut; one more per datum than its input positions.
        tokens_truncated: cut off the datums by `max_length`.
        tokens_dropped: of examples that keep no trained token. (Rows that cannot be rendered have no tokens.)
    tokens_trained: kept tokens with a loss weight; tokens_trained_lost: trained tokens that `max_length` took.
    truncated: usable rows that were cut. ends_without_stop: trained turns without an end-of-turn token.
    dropped: reason -> rows not usable. lengths: None if no row could be rendered.
    """

    rows: int
    surveyed: int
    rendered: int
    usable: int
    datums: int
    tokens: int
    tokens_kept: int
    tokens_truncated: int
    tokens_dropped: int
    tokens_trained: int
    tokens_trained_lost: int
    truncated: int
    ends_without_stop: int
    dropped: Mapping[str, Dropped]
    lengths: Lengths | None


def survey(dataset: SupervisedDataset, limit: int | None = None) -> DataSurvey:
    """Render the rows (the first `limit` of them) and add up. Trains nothing, keeps no row."""
    surveyed = len(dataset.rows) if limit is None else min(limit, len(dataset.rows))
    drops, lengths = DropCount(), list[int]()
    rendered = usable = datums = kept = truncated_tokens = dropped_tokens = 0
    trained = trained_lost = truncated = unstopped = 0
    for index in range(surveyed):
        row = dataset.render_row(index, drops)
        if row is None:
            continue
        rendered += 1
        usable += row.usable
        truncated += row.usable and any(built.cut_tokens for built in row.built)
        for example, built in zip(row.examples, row.built, strict=True):
            lengths.append(built.tokens)
            trained_lost += built.cut_trained_tokens
            if built.datum is None:
                dropped_tokens += built.tokens
                continue
            datums += 1
            kept += built.tokens - built.cut_tokens
            truncated_tokens += built.cut_tokens
            trained += built.trained_tokens
            unstopped += example.ends_without_stop
    return DataSurvey(
        rows=len(dataset.rows),
        surveyed=surveyed,
        rendered=rendered,
        usable=usable,
        datums=datums,
        tokens=sum(lengths),
        tokens_kept=kept,
        tokens_truncated=truncated_tokens,
        tokens_dropped=dropped_tokens,
        tokens_trained=trained,
        tokens_trained_lost=trained_lost,
        truncated=truncated,
        ends_without_stop=unstopped,
        dropped=drops.by_reason(),
        lengths=_lengths(lengths),
    )


def require_trainable(source: DataSurvey | SupervisedDataset, *, limit: int = 200) -> None:
    """Refuse data that trains nothing, before anything is paid for.

    source: a survey, or a data set whose first `limit` rows are then surveyed.

    Raises:
        DataError: if there is no row, or no surveyed row is usable: every reason, its count and where it was
            met first.
    """
    seen = source if isinstance(source, DataSurvey) else survey(source, limit)
    if not seen.usable:
        raise DataError(problems_of(seen.dropped) or Problem(what="the data set has no row to train on"))


def _lengths(lengths: list[int]) -> Lengths | None:
    if not lengths:
        return None
    low, middle, high, most = np.percentile(lengths, [0, 50, 95, 100], method="inverted_cdf").tolist()
    return Lengths(min=int(low), median=int(middle), p95=int(high), max=int(most))
