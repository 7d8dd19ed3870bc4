"""How do records stay in a file through a kill, and how is a damaged one found? One line, one write, one hash each."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

FILE_NAME = "journal.jsonl"
_HASH_LENGTH = 16


class JournalFile:
    """Appends lines `{"sha256": ..., "record": {...}}`; the hash (its first 16 digits) is of the record's bytes.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _sync_folder(path.parent)

    def append(self, record: Mapping[str, Any], *, durable: bool) -> None:
        """Write a record by one `write`; durable: return when it is on the disk.

        Raises:
            OSError: if the disk took none or only a part of it, which is then taken back.
        """
        body = msgspec.json.encode(record)
        line = b'{"sha256":"' + _hash(body) + b'","record":' + body + b"}\n"
        end = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
        except OSError:
            os.ftruncate(self._file, end)
            raise
        if written != len(line):
            os.ftruncate(self._file, end)
            raise OSError(28, "the disk took only a part of a record", str(self._path))
        if durable:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def read_records(path: Path) -> tuple[list[Mapping[str, Any]], int, str]:
    """The whole records from the start, the bytes that they take, and what is wrong with what follows ("" if nothing).

    A last line without its end is what a kill leaves, and no damage.
    """
    data = path.read_bytes() if path.is_file() else b""
    records: list[Mapping[str, Any]] = []
    good = 0
    while (end := data.find(b"\n", good)) >= 0:
        line = data[good:end]
        try:
            envelope = msgspec.json.decode(line, type=_Envelope)
            body = bytes(envelope.record)
            if _hash(body) != envelope.sha256.encode():
                raise ValueError("its hash is another")
            records.append(msgspec.json.decode(body, type=dict[str, Any]))
        except (ValueError, msgspec.MsgspecError) as error:
            return records, good, f"{path}:{len(records) + 1}: the line is damaged: {error}"
        good = end + 1
    return records, good, ""


class _Envelope(msgspec.Struct, frozen=True):
    sha256: str
    record: msgspec.Raw


def _hash(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_HASH_LENGTH].encode()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
