"""How do the numbers, texts and JSON data of a rollout stand in its record?

Numbers are the shortest decimals that are them; one that JSON lacks (NaN, an infinity) is a text, as in
`metrics.jsonl`. Of data that is there to be read, what JSON lacks is written as what is nearest.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from crucible.errors import DataError
from crucible.train.messages import Message
from crucible.train.token_record import Figure


def figure_of(value: float) -> Figure:
    """How the record spells a number; numpy's scalars and whole numbers are taken too."""
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def number_of(figure: Figure) -> float:
    """The number that a figure spells.

    Raises:
        ValueError: if there is none.
    """
    if figure is None:
        raise ValueError("a number is missing")
    return float(figure)


def figures_of(values: Mapping[str, float]) -> dict[str, Figure]:
    """Numbers by name, as the record spells them, in their own order."""
    return {text_of(name): figure_of(value) for name, value in values.items()}


def numbers_of(values: Mapping[str, Figure]) -> dict[str, float]:
    """The numbers that the figures spell."""
    return {name: number_of(value) for name, value in values.items()}


def text_of(text: str) -> str:
    """The text, half a surrogate pair, which is no character, spelt as its escape."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def json_of(value: object, where: str) -> object:
    """The value as JSON gives it back: tuples are lists, numpy's scalars numbers, and NaN a text.

    where: its place, for the message.

    Raises:
        DataError: if it, or something in it, is no JSON data.
    """
    if isinstance(value, np.generic):
        value = cast("object", value.item())
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float):
        return figure_of(value)
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        return [json_of(item, f"{where}[{place}]") for place, item in enumerate(items)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in cast("Mapping[Any, object]", value)):
        pairs = cast("Mapping[str, object]", value).items()
        return {text_of(key): json_of(item, f"{where}[{key!r}]") for key, item in pairs}
    raise DataError.of(
        "is no JSON data, so no record of the rollout can be kept",
        where=where,
        given=type(cast("object", value)).__name__,
        fix="Give texts, numbers of up to 64 bits, lists, and objects with texts as keys",
    )


def data_of(values: Mapping[str, object], where: str) -> dict[str, Any]:
    """Data by name, as JSON gives it back.

    Raises:
        DataError: as `json_of`.
    """
    return cast("dict[str, Any]", json_of(values, where))


def data_of_messages(said: Sequence[Message], where: str) -> list[dict[str, Any]]:
    """Messages, as JSON gives them back.

    Raises:
        DataError: as `json_of`.
    """
    return [data_of(one, f"{where}[{place}]") for place, one in enumerate(said)]


def messages_of(data: Sequence[dict[str, Any]]) -> tuple[Message, ...]:
    """The messages that the data is."""
    return tuple(cast("Message", dict(one)) for one in data)
