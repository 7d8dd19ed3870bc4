"""Which runs are there? The folders' own answer, kept in an index that is brought up to date before it is read."""

import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from crucible.errors import ConfigError, did_you_mean
from crucible.runtime.run_files import fingerprint, is_run_folder
from crucible.runtime.run_lock import is_running
from crucible.runtime.run_reading import FolderReader
from crucible.store.address import FILE_NAME, IN_MEMORY, folder_key, store_url
from crucible.store.failure import StoreError
from crucible.store.records import RunContents, RunRecord

if TYPE_CHECKING:
    from crucible.store.index import RunIndex

_LOG = logging.getLogger("crucible")
_LIVE_SECONDS = 5.0
"""How long an entry of a running run is new enough: its own recorder writes it every two seconds."""


def open_index(runs_folder: Path, *, url: str | None = None, patience: float = 30.0) -> "RunIndex":
    """The index of a runs folder; in memory where the folder is the place for it and cannot be written to.

    Raises:
        ConfigError: if the URL is wrong.
        StoreError: if the store cannot be opened.
    """
    from crucible.store.database import Database
    from crucible.store.index import RunIndex

    wanted = store_url(runs_folder, url)
    key = folder_key(runs_folder, wanted)
    if key == "." and not os.access(runs_folder, os.W_OK):
        wanted = IN_MEMORY
    return RunIndex(Database(wanted, patience=patience), folder=key)


@dataclass(frozen=True)
class Reindexed:
    """What a reindexing found. warnings: one for each folder of which something could not be read."""

    runs: int
    warnings: tuple[str, ...]


class RunStore:
    """The runs of one folder.

    runs_folder: each folder in it that a run has written to is a run, and its name is the run's id. url: of the
    store, else CRUCIBLE_STORE_URL, else `runs.db` in the folder.

    Raises:
        ConfigError: if there is no such folder, or the URL is wrong.
        StoreError: if the store cannot be opened.
    """

    def __init__(self, runs_folder: Path, *, url: str | None = None) -> None:
        if not runs_folder.is_dir():
            raise ConfigError.of(
                "there is no such folder of runs",
                where=str(runs_folder),
                fix="Name one with --runs-dir, or make a run first: crucible run sl_basic preset=demo",
            )
        self.folder = runs_folder
        self.index = open_index(runs_folder, url=url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store. Safe to call twice."""
        self.index.close()

    def names(self) -> list[str]:
        """The ids of all runs in the folder, sorted; what is no run is passed over."""
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and is_run_folder(path))

    def refresh(self, names: Iterable[str] | None = None, *, everything: bool = False) -> Reindexed:
        """Bring the index up to date: read the folders that changed since they were indexed, and forget those that
        are gone. A folder that cannot be read costs a warning.

        names: only these. everything: read the unchanged ones too.
        """
        present = self.names()
        known = self.index.known()
        wanted = present if names is None else [name for name in names if name in present]
        if gone := known.keys() - present:
            self.index.forget(gone)
        warnings: list[str] = []
        for name in wanted:
            if everything or self._is_stale(name, *known.get(name, ("", "", 0.0))):
                warnings.extend(self._read(name))
        for warning in warnings:
            _LOG.warning("%s", warning)
        return Reindexed(runs=len(wanted), warnings=tuple(warnings))

    def runs(self, *, state: str | None = None, recipe: str | None = None, limit: int | None = None) -> list[RunRecord]:
        """The runs as they are now, the one that started last first."""
        self.refresh()
        return self.index.runs(state=state, recipe=recipe, limit=limit)

    def contents(self, name: str) -> RunContents:
        """All that is known of a run, as it is now.

        Raises:
            ConfigError: if its folder cannot be read.
        """
        self.refresh([name])
        found = self.index.contents(name)
        if found is None:
            raise ConfigError.of("this run's folder cannot be read", where=str(self.folder / name))
        return found

    def find(self, reference: str) -> str:
        """The id that this is, or is the only one to begin with.

        Raises:
            ConfigError: if there is none, or more than one.
        """
        names = self.names()
        if reference in names:
            return reference
        found = [name for name in names if name.startswith(reference)]
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            raise ConfigError.of(
                f"{len(found)} runs begin like this", given=reference, fix=f"Give more of the id: {shown}"
            )
        raise ConfigError.of(
            f"no run in {self.folder} has this id", given=reference, fix=did_you_mean(reference, names)
        )

    def _is_stale(self, name: str, mark: str, state: str, indexed_at: float) -> bool:
        run_dir = self.folder / name
        running = is_running(run_dir)
        if running != (state == "running"):
            return True
        if running and 0 <= time.time() - indexed_at < _LIVE_SECONDS:
            return False
        return mark != fingerprint(run_dir)

    def _read(self, name: str) -> list[str]:
        """Index one run; returns what could not be read."""
        run_dir = self.folder / name
        try:
            name.encode()
            contents = FolderReader(run_dir).read(running=is_running(run_dir)).contents
        except OSError as error:
            return [f"{run_dir}: cannot be read: {error.strerror or error}"]
        except UnicodeEncodeError:
            return [f"{str(run_dir)!r}: the folder's name is no text; rename it"]
        self.index.write(contents, whole=True)
        return [f"{run_dir}: {contents.run.warning}"] if contents.run.warning else []


def reindex(runs_folder: Path, url: str | None = None) -> Reindexed:
    """Make the index again from the run folders, all of it; a damaged `runs.db` is put aside as `runs.db.damaged`.

    Raises:
        ConfigError: if there is no such folder, or the URL is wrong.
        StoreError: if the store cannot be opened or written.
    """
    try:
        with RunStore(runs_folder, url=url) as store:
            return store.refresh(everything=True)
    except StoreError as error:
        if not error.damaged or folder_key(runs_folder, store_url(runs_folder, url)) != ".":
            raise
    file = runs_folder / FILE_NAME
    file.replace(file.with_name(f"{FILE_NAME}.damaged"))
    for rest in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            file.with_name(f"{FILE_NAME}{rest}").unlink()
    with RunStore(runs_folder, url=url) as store:
        return store.refresh(everything=True)


def locate(reference: str, runs_folder: Path, *, url: str | None = None) -> tuple[RunStore, str]:
    """The store and the id of a run that is named by id, by the beginning of one, or by its folder's path.

    The caller closes the store. A run elsewhere is read without leaving an index there.

    Raises:
        ConfigError: if there is no such run.
        StoreError: if the store cannot be opened.
    """
    path = Path(reference).expanduser().resolve()
    if runs_folder.is_dir() or not is_run_folder(path):
        store = RunStore(runs_folder, url=url)
        try:
            return store, store.find(reference)
        except ConfigError:
            if is_run_folder(path) and path.parent == runs_folder.resolve():
                return store, path.name
            store.close()
            if not is_run_folder(path):
                raise
        except BaseException:
            store.close()
            raise
    indexed = (path.parent / FILE_NAME).is_file()
    return RunStore(path.parent, url=url if url or indexed else IN_MEMORY), path.name
