"""An estimate stands on what was measured."""

import re
from pathlib import Path

import pytest

from crucible.engine.estimate import EFFICIENCY

MEASURED = Path(__file__).parents[2] / "docs" / "experiments.md"


@pytest.mark.parametrize(("short", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_the_share_of_the_matmul_speed_is_about_the_one_in_the_records(short: str, dtype: str) -> None:
    row = re.search(
        rf"\| {short} \| the machine's matmul bound \|[^|]*\| ([0-9.]+)x", MEASURED.read_text(encoding="utf-8")
    )
    assert row is not None
    assert EFFICIENCY[dtype] == pytest.approx(float(row[1]), abs=0.1)
