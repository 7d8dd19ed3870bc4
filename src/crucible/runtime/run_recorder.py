"""How does the store follow a run while it goes on? A thread beside it reads what the run writes to its folder."""

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crucible.errors import UserError
from crucible.runtime.run_reading import FolderReader
from crucible.store.address import FILE_NAME, IN_MEMORY, VARIABLE, store_url
from crucible.telemetry import Event

if TYPE_CHECKING:
    from crucible.store.index import RunIndex

_LOG = logging.getLogger("crucible")


class RunRecorder:
    """A telemetry handler that keeps a run's entry in the store up to date.

    An event only wakes it; what it records it reads from the run's folder, as `crucible runs reindex` does, so
    there is one way of reading a run. It never stops or slows the run: it works in a thread of its own, a batch
    every `every` seconds. A store that is down, locked or slow is reported once to the logger `crucible` and
    tried again after `retry_after` seconds; what was missed is read then, or by the next `crucible runs`.

    url: of the store, else CRUCIBLE_STORE_URL, else `runs.db` beside the run's folder, if there is one or that
    folder is called `runs`: a run elsewhere leaves nothing beside its folder. patience: the longest, in seconds,
    that a batch waits for the database, and `close` for the thread.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        url: str | None = None,
        every: float = 2.0,
        patience: float = 5.0,
        retry_after: float = 30.0,
    ) -> None:
        self._run_dir = run_dir.absolute()
        self._url = url
        self._every, self._patience, self._retry_after = every, patience, retry_after
        self._reader = FolderReader(self._run_dir)
        self._index: RunIndex | None = None
        self._not_before = 0.0
        self._reported = False
        self._news = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        if self._is_wanted():
            self._thread = threading.Thread(target=self._work, name=f"store of {run_dir.name}", daemon=True)
            self._thread.start()

    def __call__(self, event: Event) -> None:
        """Something happened: the folder has news."""
        del event
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """The run has ended and its summary is written: record how, and stop. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._ending.set()
        thread.join(self._patience)
        if thread.is_alive():
            self._report(f"it did not answer within {self._patience:g} s")

    def _is_wanted(self) -> bool:
        folder = self._run_dir.parent
        if self._url or os.environ.get(VARIABLE):
            try:
                return store_url(folder, self._url) != IN_MEMORY
            except UserError as error:
                self._report(str(error))
                return False
        return folder.name == "runs" or (folder / FILE_NAME).is_file()

    def _work(self) -> None:
        while not self._ending.wait(self._every):
            if self._news.is_set() and time.monotonic() >= self._not_before:
                self._news.clear()
                self._record(running=True)
        self._reader.start_over()  # whole, so that nothing is missing that another process's reindexing crossed
        self._record(running=False)
        self._let_go()

    def _record(self, *, running: bool) -> None:
        try:
            if self._index is None:
                from crucible.runtime.run_store import open_index

                self._index = open_index(self._run_dir.parent, url=self._url, patience=self._patience)
            if running and not self._run_dir.is_dir():
                return
            reading = self._reader.read(running=running)
            self._index.write(reading.contents, whole=reading.whole)
            self._index.close()  # a process that a stage forks must not inherit a connection
        except (UserError, OSError) as error:
            self._failed(str(error))
        except Exception as error:  # noqa: BLE001  (an index must never cost a run, whatever went wrong)
            self._failed(repr(error))

    def _failed(self, why: str) -> None:
        """Try again later, from the start of the folder: the batch that failed was not kept."""
        self._reader.start_over()
        self._let_go()
        self._not_before = time.monotonic() + self._retry_after
        self._news.set()
        self._report(why)

    def _let_go(self) -> None:
        index, self._index = self._index, None
        if index is not None:
            index.close()

    def _report(self, why: str) -> None:
        if not self._reported:
            self._reported = True
            _LOG.warning(
                "the run store is not up to date, which costs the run nothing (`crucible runs reindex` mends it): %s",
                why,
            )
