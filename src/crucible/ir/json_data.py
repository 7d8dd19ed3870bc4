"""Is this value JSON data, so that it comes back from a file as it went in?"""

import math
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

from crucible.errors import Problem

Json: TypeAlias = Any
"""None, bool, int (64 bit), float (finite), str, and lists and string-keyed dicts of these; no subclasses."""


def json_problems(value: object, *, where: str) -> Iterator[Problem]:
    """Everything in `value` that JSON would lose or refuse, each with its path under `where`."""
    kind = type(value)
    if value is None or kind is bool:
        return
    if isinstance(value, str) and kind is str:
        if any("\ud800" <= character <= "\udfff" for character in value):
            yield Problem(what="half of a surrogate pair is no text", where=where, given=ascii(value))
    elif isinstance(value, int) and kind is int:
        if value.bit_length() > 64:
            yield Problem(what="an integer must fit in 64 bits", where=where, given=f"{value.bit_length()} bits")
    elif isinstance(value, float) and kind is float:
        if not math.isfinite(value):
            yield Problem(what="JSON has no such number", where=where, given=repr(value))
    elif kind is list:
        for index, item in enumerate(cast("list[object]", value)):
            yield from json_problems(item, where=f"{where}[{index}]")
    elif kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                yield Problem(what="a key must be a string", where=where, given=repr(key))
            else:
                yield from json_problems(key, where=f"{where}: key")
                yield from json_problems(item, where=f"{where}.{key}")
    elif callable(value):
        yield Problem(
            what="a function is not data, so the run could not start from its file alone",
            where=where,
            given=getattr(value, "__qualname__", repr(value)),
            fix="Give a value, or the registered name of a condition",
        )
    else:
        yield Problem(
            what=f"a {kind.__name__} is not JSON data",
            where=where,
            given=repr(value)[:80],
            fix="Use None, bool, int, float, str, list or dict",
        )
