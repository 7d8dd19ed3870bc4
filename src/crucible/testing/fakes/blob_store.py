"""Where do blobs go in a test? Into a dictionary: `FakeBlobStore`."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

from crucible.ports.blob_store import BlobStore


class FakeBlobStore(BlobStore):
    """Blobs in memory."""

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def read(self, key: str) -> bytes:
        blob = self._blobs.get(_checked(key))
        if blob is None:
            raise FileNotFoundError(f"there is no blob {key!r}")
        return blob

    def stream(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        blob = self.read(key)
        return (blob[start : start + chunk_size] for start in range(0, len(blob), chunk_size))

    def write(self, key: str, data: bytes) -> None:
        self._blobs[_checked(key)] = bytes(data)

    def exists(self, key: str) -> bool:
        return _checked(key) in self._blobs

    def list(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self._blobs if key.startswith(prefix))

    def delete(self, key: str) -> None:
        self._blobs.pop(_checked(key), None)


def _checked(key: str) -> str:
    path = PurePosixPath(key)
    if not key or path.is_absolute() or ".." in path.parts or str(path) != key or key == ".":
        raise ValueError(f"a blob's key is a relative path without '..' or empty parts; got {key!r}")
    return key
