"""How are events kept in a file that survives a kill? One line and one write per event."""

import os
from pathlib import Path

import msgspec

from crucible.telemetry.event import Event


class Jsonl:
    """A handler that appends `{"time_ns", "name", "measurements", "metadata"}` lines.

    Each event is one `write` to a file opened for appending: what was emitted before `kill -9` is there, and
    lines never mix. Values that JSON lacks are written as their repr, NaN and infinity as null.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)  # a line that a kill or a full disk cut short
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._encoder = msgspec.json.Encoder(enc_hook=repr)

    def __call__(self, event: Event) -> None:
        os.write(self._file, self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file; detach the handler first. Safe to call twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
