"""Which rows are kept back to measure on?"""

from crucible.errors import ConfigError, DataError
from crucible.ports.dataset_store import RowSet
from crucible.train.seeding import generator


def split_rows(rows: RowSet, holdout: int, *, seed: int) -> tuple[RowSet, RowSet]:
    """(train, held out): `holdout` rows drawn from `seed`, and the rest; both in the rows' own order, with origins.

    Raises:
        ConfigError: if `holdout` is negative.
        DataError: if no row would be left to train on.
    """
    if holdout < 0:
        raise ConfigError.of("the held-out rows are 0 or more", where="holdout", given=holdout)
    if holdout >= len(rows):
        raise DataError.of(
            f"holding out {holdout} row(s) leaves none to train on",
            where=rows.name,
            given=f"{len(rows)} row(s)",
            fix="Hold out fewer rows (eval_rows), or bring more",
        )
    order = generator(seed, "holdout").permutation(len(rows)).tolist()
    return _select(rows, sorted(order[holdout:])), _select(rows, sorted(order[:holdout]))


def _select(rows: RowSet, indices: list[int]) -> RowSet:
    return RowSet([rows[i] for i in indices], name=rows.name, origins=[rows.origin(i) for i in indices])
