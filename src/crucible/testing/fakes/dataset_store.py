"""Which rows are there when no data is? `FakeDatasetStore`: sums in words, drawn from a seed."""

import zlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from crucible.errors import DataError
from crucible.ports.dataset_store import DatasetInfo, DatasetStore, Row, RowSet

SPLITS = {"train": 96, "test": 16}
"""Rows by split."""


class FakeDatasetStore(DatasetStore):
    """Has every data set but one without a name: 96 training and 16 test rows, by reference, split and seed.

    A reference that names gsm8k has `question` and `answer` columns, one that names human_eval has HumanEval's, and
    every other has `messages`.
    """

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    def accepts(self, reference: str) -> bool:
        return bool(reference.strip())

    def info(self, reference: str) -> DatasetInfo:
        row = self.load(reference, limit=1)[0]
        return DatasetInfo(name=reference, splits=dict(SPLITS), columns=tuple(row), license="CC0-1.0", source="noop")

    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        if not self.accepts(reference):
            raise DataError.of("there is no data set without a name", given=repr(reference))
        if split not in SPLITS:
            raise DataError.of(f"{reference} has no such split", given=split, fix=f"It has {', '.join(SPLITS)}")
        random = np.random.Generator(np.random.PCG64(zlib.crc32(f"{reference}[{split}]{self._seed}".encode())))
        rows = [_row(random, reference.lower()) for _ in range(SPLITS[split])]
        return RowSet(rows[:limit], name=f"{reference}[{split}]")

    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        return iter(self.load(reference, split=split))

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        return self.load(reference, split=split).fingerprint()


def _row(random: np.random.Generator, reference: str) -> Row:
    left, right = (int(number) for number in random.integers(1, 100, size=2))
    if "human_eval" in reference or "humaneval" in reference:
        return _program(left, right)
    question = f"Ann has {left} apples and finds {right} more. How many apples has she now?"
    answer = f"{left} + {right} = {left + right}\n#### {left + right}"
    if "gsm8k" in reference:
        return {"question": question, "answer": answer}
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _program(left: int, right: int) -> Row:
    return {
        "task_id": f"Fake/{left}+{right}",
        "prompt": f'def apples() -> int:\n    """{left} apples and {right} more."""\n',
        "entry_point": "apples",
        "canonical_solution": f"    return {left} + {right}\n",
        "test": f"def check(candidate):\n    assert candidate() == {left + right}\n",
    }
