"""How is a row written as one line of JSON? A function of the row alone."""

import json
import math
from typing import Any

from crucible.ports.metrics_store import MetricsRow


def line_of(row: MetricsRow) -> str:
    """`{"step": 1, "loss": 2.5, "lr": 0.0002}` without an end of line.

    JSON has no NaN or infinity: they are the texts "NaN", "Infinity", "-Infinity".
    """
    data = {"step": row.step, **{name: _to_json(value) for name, value in row.values.items()}}
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def row_of(line: bytes | str) -> MetricsRow:
    """What `line_of` wrote.

    Raises:
        ValueError: if the line is damaged.
    """
    try:
        data: dict[str, Any] = json.loads(line)
        return MetricsRow(step=int(data.pop("step")), values={name: float(value) for name, value in data.items()})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("no row") from error


def _to_json(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
