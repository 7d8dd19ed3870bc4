"""How do blobs live in a folder? `LocalBlobStore`: a file per key, written aside and renamed into place."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from crucible.ports.blob_store import BlobStore

INCOMPLETE = ".incomplete"
"""The folder where files are while they are written; no key is in it."""


class LocalBlobStore(BlobStore):
    """A file per key below `root`. A write is on the disk when it returns; a crash leaves the old bytes."""

    adapter_name: ClassVar[str] = "local"

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)

    def read(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        path = self._path(key)
        try:
            file = path.open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise FileNotFoundError(f"there is no blob {key!r}") from error
        with file:
            while chunk := file.read(chunk_size):
                yield chunk

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        staging = self._root / INCOMPLETE
        for folder in (staging, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=staging)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str = "") -> list[str]:
        paths = (path.relative_to(self._root) for path in self._root.rglob("*") if path.is_file())
        keys = (path.as_posix() for path in paths if path.parts[0] != INCOMPLETE)
        return sorted(key for key in keys if key.startswith(prefix))

    def delete(self, key: str) -> None:
        if self.exists(key):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        path = PurePosixPath(key)
        if (
            not path.parts
            or path.is_absolute()
            or ".." in path.parts
            or str(path) != key
            or path.parts[0] == INCOMPLETE
        ):
            raise ValueError(
                f"a blob's key is a relative path without '..' or empty parts, outside {INCOMPLETE}/; got {key!r}"
            )
        return self._root / path


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
