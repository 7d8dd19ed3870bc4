"""Which lines were added to a growing file, and what do they say?"""

from pathlib import Path
from typing import Any, cast

import msgspec

_DECODER = msgspec.json.Decoder()
_DEEPEST = 100  # levels; an experiment's pipeline has about ten
_LONGEST_INTEGER = 4096  # bits


class Rewritten(Exception):
    """The file is shorter than it was, or another one: what was read of it before no longer holds."""


class GrowingFile:
    """A file that is appended to, read from where the last reading ended. A last line without its end is no line
    yet: a writer is at it, or a kill cut it short."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines_read = 0
        self._offset = 0
        self._inode = 0

    def new_lines(self) -> list[tuple[int, bytes]]:
        """The whole lines since the last call, each with its number in the file from 0; none if there is no file.

        Raises:
            Rewritten: if the file has shrunk, or is another one.
            OSError: if it cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            if self._offset:
                raise Rewritten from None
            return []
        with file:
            status = self.path.stat()
            if self._offset and (status.st_ino != self._inode or status.st_size < self._offset):
                raise Rewritten
            self._inode = status.st_ino
            file.seek(self._offset)
            lines: list[tuple[int, bytes]] = []
            for line in file:
                if not line.endswith(b"\n"):
                    break
                lines.append((self.lines_read, line))
                self.lines_read += 1
                self._offset += len(line)
            return lines


def parse_object(text: bytes) -> dict[str, Any] | None:
    """A JSON object; None if the text is no such thing, whatever else it is."""
    try:
        value: Any = _DECODER.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) and _is_storable(value) else None


def _is_storable(value: Any) -> bool:
    """Whether JSON data can be written again: not too deep for Python's recursion, no number too long for a text."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for found in level:
            if isinstance(found, dict):
                below.extend(cast(dict[str, Any], found).values())
            elif isinstance(found, list):
                below.extend(cast(list[Any], found))
            elif isinstance(found, int) and found.bit_length() > _LONGEST_INTEGER:
                return False
        if not below:
            return True
        level = below
    return False
