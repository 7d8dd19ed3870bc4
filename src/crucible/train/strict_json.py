"""How is JSON read that a model or a stranger wrote? As the standard has it, and never with any other error."""

import json
import math
from typing import Any, NoReturn


def read_json(text: str) -> Any:
    """The value that the text is.

    Raises:
        ValueError: if it is not JSON (NaN and Infinity are none), holds a number that no float can hold or half of a
            surrogate pair, which is no character, or is nested too deeply to be read.
    """
    value, end = read_json_at(text, 0)
    if text[end:].strip(_SPACE):
        raise ValueError(f"more follows the value, at character {end}")
    return value


def read_json_at(text: str, place: int) -> tuple[Any, int]:
    """The value that begins at this place or after white space, and the place where it ends.

    Raises:
        ValueError: as `read_json`.
    """
    while text[place : place + 1] and text[place] in _SPACE:
        place += 1
    try:
        value, end = _DECODER.raw_decode(text, place)
        if "\\u" in text[place:end]:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value, end


_SPACE = " \t\n\r"


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
