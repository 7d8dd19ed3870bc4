"""How long is `7d`?"""

import re

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


def seconds_of(duration: str) -> float:
    """Seconds of a number with s, m, h, d or w behind it (none: seconds); 0 for an empty text.

    Raises:
        ValueError: if it is no such text.
    """
    if not duration.strip():
        return 0.0
    found = _DURATION.fullmatch(duration.strip())
    if found is None:
        raise ValueError(f"{duration!r} is no time: give a number and s, m, h, d or w, as in 7d")
    return float(found.group(1)) * _UNITS[found.group(2)]
