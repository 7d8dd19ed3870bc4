"""How is a file of rows read? One reader per extension: jsonl, json, csv, parquet.

A reader takes the path and its name in messages, and yields a `Record` per row or a `Problem` per mistake; it
raises OSError alone. Of splits it knows nothing.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast

import msgspec

from crucible.adapters.datasets.parquet_format import read_parquet
from crucible.adapters.datasets.records import Item, Record
from crucible.errors import Problem

Reader: TypeAlias = Callable[[Path, str], Iterator[Item]]

_BOM = b"\xef\xbb\xbf"
_GIVEN_LENGTH = 60
"""Characters of a wrong line that a message shows."""


def read_jsonl(path: Path, shown: str) -> Iterator[Item]:
    """One JSON object per line; blank lines and a byte-order mark are passed over."""
    for number, line in _lines(path):
        if line.strip():
            yield _row(line, where=f"{shown}:{number}")


def read_json(path: Path, shown: str) -> Iterator[Item]:
    """A JSON list of objects."""
    parsed = parse_json(path, shown)
    if isinstance(parsed, Problem):
        yield parsed
    elif not isinstance(parsed, list):
        yield Problem(what=f"a file of rows is a JSON list of objects, not {_kind(parsed)}", where=shown)
    else:
        yield from rows_of(cast(list[Any], parsed), shown)


def rows_of(values: Iterable[Any], shown: str) -> Iterator[Item]:
    """The elements of a parsed JSON list."""
    for number, value in enumerate(values, start=1):
        where = f"{shown} row {number}"
        if isinstance(value, dict):
            yield Record(cast(dict[str, Any], value), where)
        else:
            yield Problem(what=f"a row is a JSON object, not {_kind(value)}", where=where)


def parse_json(path: Path, shown: str) -> Any | Problem:
    """What a `.json` file holds, or what is wrong with it, by line."""
    data = path.read_bytes().removeprefix(_BOM)
    if not data.strip():
        return cast(list[Any], [])
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = re.search(r"\(byte (\d+)\)", str(error))  # where msgspec says so; otherwise the file ends too early
        line = data.count(b"\n", 0, int(found.group(1)) if found else len(data.rstrip())) + 1
        return Problem(what=f"this is not JSON: {error}", where=f"{shown}:{line}")


def read_csv(path: Path, shown: str) -> Iterator[Item]:
    """Comma-separated values under a header line; every value is text. A quoted value may hold line breaks."""
    undecodable: list[Problem] = []

    def texts() -> Iterator[str]:
        for number, line in _lines(path):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:  # csv could not go on after it
                undecodable.append(_not_utf8(error, where=f"{shown}:{number}"))
                return
            yield text

    reader = csv.reader(texts(), strict=True)
    header: list[str] | None = None
    while True:
        where = f"{shown}:{reader.line_num + 1}"
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield Problem(what=f"this is not CSV: {error}", where=where)
            continue
        if not values or undecodable:
            continue
        if header is None:
            header = values
            doubled = sorted({name for name in header if header.count(name) > 1})
            if doubled or "" in header:
                yield Problem(what="the header names every column, each once", where=where, given=",".join(header))
        elif len(values) != len(header):
            yield Problem(what=f"{len(values)} values under {len(header)} columns", where=where)
        else:
            yield Record(dict(zip(header, values, strict=True)), where)
    yield from undecodable


READERS: Mapping[str, Reader] = MappingProxyType(
    {".jsonl": read_jsonl, ".json": read_json, ".csv": read_csv, ".parquet": read_parquet}
)
"""The reader of every extension."""


def is_utf16(path: Path) -> bool:
    """Whether the file starts with the byte-order mark of UTF-16, which no reader reads."""
    with path.open("rb") as file:
        return file.read(2) in (b"\xff\xfe", b"\xfe\xff")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, without the byte-order mark."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.removeprefix(_BOM) if number == 1 else line


def _row(line: bytes, *, where: str) -> Item:
    given = line.strip().decode(errors="replace")
    given = given if len(given) <= _GIVEN_LENGTH else f"{given[:_GIVEN_LENGTH]}…"
    try:
        value = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        return _not_utf8(error, where=where)
    except (msgspec.DecodeError, RecursionError) as error:
        return Problem(what=f"this line is not JSON: {error}", where=where, given=given)
    if not isinstance(value, dict):
        return Problem(what=f"a row is a JSON object, not {_kind(value)}", where=where, given=given)
    return Record(cast(dict[str, Any], value), where)


def _not_utf8(error: UnicodeDecodeError, *, where: str) -> Problem:
    return Problem(what=f"this line is not UTF-8 ({error.reason} at byte {error.start})", where=where)


def _kind(value: object) -> str:
    """What a parsed JSON value is, in words."""
    for kind, name in ((dict, "an object"), (list, "a list"), (str, "a text"), (bool, "a boolean")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "a number"
