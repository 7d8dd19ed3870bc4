# pyright: standard
# (pyarrow ships no types)
"""How is a Parquet file read? Batch by batch, so that a large one is never held whole."""

from collections.abc import Iterator
from pathlib import Path

from crucible.adapters.datasets.records import Item, Record
from crucible.errors import MissingExtraError, Problem

BATCH = 1024
"""Rows converted at a time."""


def read_parquet(path: Path, shown: str) -> Iterator[Item]:
    """A row per row of the file; damage ends it with a problem.

    Raises:
        MissingExtraError: if pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError.for_extra("data", needed_by="reading Parquet", module="pyarrow") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield Record(row, f"{shown} row {number}")
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # damage shows as any of these
        yield Problem(what=f"this is not Parquet, or it is damaged: {error}", where=f"{shown} row {number + 1}")
