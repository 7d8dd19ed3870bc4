"""Where do files go that are no checkpoint? A `BlobStore`."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from crucible.ports.port import Port


class BlobStore(Port):
    """Bytes by key. Keys are relative POSIX paths (`a/b.bin`), without `..`.

    A write is atomic: a reader sees the old bytes or the new ones, never a part.
    """

    port_name: ClassVar[str] = "blob_store"

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes.

        Raises:
            FileNotFoundError: if there is no such key.
            ValueError: if the key is absolute, empty or climbs with `..` (every method).
        """

    @abstractmethod
    def stream(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """The bytes in chunks of at most `chunk_size`. Errors as for `read`, at the first chunk at the latest."""

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Create or replace."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether `read` would succeed."""

    @abstractmethod
    def list(self, prefix: str = "") -> list[str]:
        """Every key that starts with `prefix`, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove it; a key that is not there is no error."""
