"""How are the numbers of a run spelt?"""

import math
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from crucible.store.records import RunRecord

DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
"""A number and a unit: 45m, 12h, 7d."""

STATE_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "interrupted": "yellow",
    "killed": "red",
}


def record_json(run: RunRecord) -> dict[str, Any]:
    """Every field of a run as JSON data: the start as ISO 8601, and, since JSON has no NaN or infinity, those as the
    texts that `metrics.jsonl` has for them."""
    fields = {key: value for key, value in asdict(run).items() if key != "fingerprint"}
    started = run.started_at
    fields["started_at"] = None if started is None else datetime.fromtimestamp(started, UTC).isoformat()
    if run.loss is not None and not math.isfinite(run.loss):
        fields["loss"] = "NaN" if math.isnan(run.loss) else "Infinity" if run.loss > 0 else "-Infinity"
    return fields


def when(seconds: float | None) -> str:
    """A time since 1970 as the local date and time."""
    try:
        return "-" if seconds is None else datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "-"  # a damaged file may say any number


def duration(seconds: float) -> str:
    """Milliseconds up to a second, seconds up to a minute, then the two largest units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds / 60), 60)
    return f"{minutes[0]} m {minutes[1]:02} s" if seconds < 3600 else f"{hours[0]:,} h {hours[1]:02} m"


def number(value: float | None) -> str:
    """A loss, to four places."""
    return "-" if value is None else f"{value:.4f}"


def figure(value: float | None) -> str:
    """Any number: counts in full, others to six digits."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def bytes_of(size: int) -> str:
    """Bytes in the unit that fits."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
