"""Where are saved weights, and when are they safe?

The engine writes a checkpoint's folder whole or not at all, on the disk before it says so, under a name of random
hex that no client chose. By default that is where the weights stay: nothing is copied. With a blob store they are
copied there, as `checkpoints/KIND/HEX/FILE`, and a folder that is gone is fetched again.

A record is written only after its files are safe. A kill in between leaves files without a record, which `recover`
takes away; a record without files is kept, and said.
"""

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from crucible.engine.folder import take_away, whole_folder
from crucible.errors import CheckpointError
from crucible.ports.blob_store import BlobStore
from crucible.ports.training_client import SavedWeights
from crucible.store.server_records import CHECKPOINT_KINDS, CheckpointRecord
from crucible.store.server_store import ServerStore

_BLOBS = "checkpoints/"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Files that are safe. engine_path: what a record calls them, `KIND/HEX`; size_bytes: of all of them."""

    engine_path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What a server found as it started.

    lost_sessions: were open when it ended. orphans: files without a record, taken away. missing: the `tinker://`
    paths of records without files.
    """

    lost_sessions: int
    orphans: int
    missing: tuple[str, ...]


class Vault:
    """The saved weights of one server. Every method blocks on the disk, and is safe from any thread.

    folder: the engine's checkpoint folder. blobs: where copies are kept too, and fetched from; None: nowhere.
    """

    def __init__(self, *, store: ServerStore, folder: Path, blobs: BlobStore | None = None) -> None:
        self._store, self._folder, self._blobs = store, folder.absolute(), blobs
        self._lock = threading.Lock()  # between "no record names these files" and their end, none may begin to

    def keep(self, saved: SavedWeights) -> Kept:
        """Make sure that what the engine saved outlives this process.

        Raises:
            OSError, PortError: if the copies cannot be written.
        """
        return self._keep(Path(saved.path))

    def keep_export(self, saved: SavedWeights, *, export: Callable[[Path, Path], object]) -> Kept:
        """Write what the engine saved in another form, by `export(checkpoint, out)`, and keep that.

        Raises:
            OSError, PortError: if it cannot be written. Whatever `export` raises.
        """
        out = self._folder / "external_weights" / uuid4().hex
        export(Path(saved.path), out)
        return self._keep(out)

    def record(self, record: CheckpointRecord, *, overwrite: bool = False) -> None:
        """Remember a checkpoint whose files were kept; the files of one that it takes the place of go.

        Raises:
            CheckpointError: if there is one of this name that is not to be overwritten; its own files go then.
        """
        try:
            replaced = self._store.add_checkpoint(record, overwrite=overwrite)
        except CheckpointError:
            self._discard(record.engine_path)
            raise
        if replaced is not None:
            self._discard(replaced.engine_path)

    def share(self, source: CheckpointRecord, copy: CheckpointRecord) -> None:
        """Remember a copy, which has the files of its source and outlives it.

        Raises:
            CheckpointError: if the source is gone by now.
        """
        assert copy.engine_path == source.engine_path
        with self._lock:
            if not self._store.is_used(source.engine_path):
                raise CheckpointError.of("the checkpoint is gone", where=source.tinker_path)
            self._store.add_checkpoint(copy)

    def open(self, record: CheckpointRecord) -> str:
        """The local path that the ports load it from.

        Raises:
            CheckpointError: if its files are gone.
            PortError: if they cannot be fetched.
        """
        folder = self._path(record.engine_path)
        if folder.is_dir():
            return str(folder)
        keys = [] if self._blobs is None else self._blobs.list(f"{_BLOBS}{record.engine_path}/")
        if not keys:
            raise CheckpointError.of("the checkpoint's files are gone", where=record.tinker_path)
        assert self._blobs is not None
        try:
            with whole_folder(folder) as scratch:
                for key in keys:
                    with (scratch / key.rpartition("/")[2]).open("wb") as file:
                        for chunk in self._blobs.stream(key):
                            file.write(chunk)
        except FileExistsError:  # somebody else fetched it meanwhile
            pass
        return str(folder)

    def files(self, record: CheckpointRecord) -> dict[str, Path]:
        """Its files by name.

        Raises:
            CheckpointError: if they are gone.
            PortError: if they cannot be fetched.
        """
        return {path.name: path for path in sorted(Path(self.open(record)).iterdir()) if path.is_file()}

    def forget(self, record: CheckpointRecord) -> bool:
        """Delete a checkpoint: its record first, then its files unless a copy shares them; False if it was gone."""
        known = self._store.delete_checkpoint(record)
        if known:
            self._discard(record.engine_path)
        return known

    def sweep(self) -> int:
        """Delete what has expired; returns how many."""
        return sum(self.forget(record) for record in self._store.expired())

    def recover(self) -> Recovered:
        """What a server that starts owes to the one that ended: see `Recovered`. Call it before any other."""
        lost = self._store.end_open_sessions(reason="lost", detail="the server was started again")
        used = self._store.engine_paths()
        here = {path.relative_to(self._folder).as_posix(): path for path in self._folders()}
        orphans = here.keys() - used
        for path in orphans:
            take_away(here[path])
        kept = here.keys() & used
        if self._blobs is not None:
            stored = {key.removeprefix(_BLOBS).rpartition("/")[0] for key in self._blobs.list(_BLOBS)}
            for path in stored - used:
                self._discard(path)
            orphans, kept = orphans | (stored - used), kept | (stored & used)
        missing = [record.tinker_path for record in self._store.records_of(used - kept)]
        return Recovered(lost_sessions=lost, orphans=len(orphans), missing=tuple(sorted(missing)))

    def _folders(self) -> list[Path]:
        """Every checkpoint's folder; what a kill left unfinished goes."""
        found: list[Path] = []
        for kind in CHECKPOINT_KINDS:
            for path in (self._folder / kind).glob("*"):
                if path.name.startswith("."):
                    shutil.rmtree(path, ignore_errors=True)
                elif path.is_dir():
                    found.append(path)
        return found

    def _keep(self, folder: Path) -> Kept:
        assert folder.is_relative_to(self._folder), f"{folder} is not below {self._folder}"
        engine_path = folder.relative_to(self._folder).as_posix()
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        if self._blobs is not None:
            for path in files:
                self._blobs.write(f"{_BLOBS}{engine_path}/{path.name}", path.read_bytes())
        return Kept(engine_path=engine_path, size_bytes=sum(path.stat().st_size for path in files))

    def _discard(self, engine_path: str) -> None:
        with self._lock:
            if self._store.is_used(engine_path):
                return
            folder = self._path(engine_path)
            if folder.is_dir():
                take_away(folder)
        if self._blobs is not None:
            for key in self._blobs.list(f"{_BLOBS}{engine_path}/"):
                self._blobs.delete(key)

    def _path(self, engine_path: str) -> Path:
        """Below our folder: what a record says is our own, but a database can be edited."""
        parts = engine_path.split("/")
        if len(parts) != 2 or parts[0] not in CHECKPOINT_KINDS or parts[1] in ("", ".", ".."):
            raise CheckpointError.of("a record names a folder that no engine wrote", given=engine_path)
        return self._folder / engine_path
