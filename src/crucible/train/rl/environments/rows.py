"""How do the rows of a data set become problems? All of them, or every row that cannot is named."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from crucible.errors import DataError, Problem
from crucible.ports.dataset_store import Row
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.environments.splits import rows_of_split

P = TypeVar("P")

_SHOWN = 20
"""Wrong rows that a message names."""


def read_problems(
    request: EnvironmentRequest,
    read: Callable[[Row, str], P | Problem],
    *,
    dataset: str,
    split: str,
    eval_split: str,
    text: Callable[[P], str],
) -> list[P]:
    """The problems of the request's split: of the store's split of that name, or, where `eval_split` is empty, of one
    tenth of the training split for evaluation and the rest for training.

    read: (row, its name) to a problem, or to what is wrong with it; a row's name is the same on every machine.
    text: what a problem is known by.

    Raises:
        DataError: naming the first twenty rows that make no problem; or as the store's `load`.
    """
    assert request.datasets is not None, "the registry has asked for a dataset store"
    own_split = request.split == "eval" and eval_split
    rows = request.datasets.load(dataset, split=eval_split if own_split else split)
    made = [read(row, f"{dataset} row {number}") for number, row in enumerate(rows, start=1)]
    wrong = [replace(one, where=rows.origin(at)) for at, one in enumerate(made) if isinstance(one, Problem)]
    if wrong:
        more = [Problem(what=f"so are {len(wrong) - _SHOWN} rows more", where=rows.name)] if wrong[_SHOWN:] else []
        raise DataError([*wrong[:_SHOWN], *more])
    problems = [one for one in made if not isinstance(one, Problem)]
    if eval_split:
        return problems[: request.rows]
    return rows_of_split(problems, request.split, text=text, limit=request.rows)


def text_in(row: Row, columns: Sequence[str]) -> str | None:
    """The text of the first of these columns that the row has; None if it has none of them, or no text in it."""
    value = next((row[column] for column in columns if row.get(column) is not None), None)
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and text.strip() else None
