"""Where is the store of a runs folder?"""

import os
import socket
from pathlib import Path

from crucible.errors import ConfigError

VARIABLE = "CRUCIBLE_STORE_URL"
FILE_NAME = "runs.db"
IN_MEMORY = "sqlite://"
NONE = "none"


def store_url(runs_folder: Path, url: str | None = None) -> str:
    """The argument, else the environment variable CRUCIBLE_STORE_URL, else SQLite at `runs.db` in the folder.

    `none` is a store in memory, which nothing outlives.

    Raises:
        ConfigError: for a database that is neither SQLite nor PostgreSQL.
    """
    chosen = url or os.environ.get(VARIABLE) or ""
    if not chosen:
        return f"sqlite:///{runs_folder.absolute() / FILE_NAME}"
    if chosen == NONE:
        return IN_MEMORY
    kind = chosen.partition(":")[0].partition("+")[0]
    if kind not in ("sqlite", "postgresql", "postgres") or "://" not in chosen:
        raise ConfigError.of(
            "the store's URL names neither SQLite nor PostgreSQL",  # the URL is not shown: it may hold a password
            where="--store" if url else VARIABLE,
            fix="Give sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
        )
    return chosen


def folder_key(runs_folder: Path, url: str) -> str:
    """What a runs folder is called in its store: "." in the database that lies in it, so that both may move
    together; elsewhere by machine and path."""
    if url in (IN_MEMORY, f"sqlite:///{runs_folder.absolute() / FILE_NAME}"):
        return "."
    return f"{socket.gethostname()}:{runs_folder.resolve()}"
