"""How do bytes reach the disk whole or not at all, and stay there through a power loss?"""

import os
import threading
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name beside `path`, fsync, rename over it, fsync the folder.

    Raises:
        OSError: if a step fails; then `path` is as it was and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")  # one writer each
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent, os.O_RDONLY)


def append_durably(path: Path, line: bytes) -> None:
    """Append `line` by a single write, then fsync the file and its folder.

    Raises:
        OSError: if a step fails, or the disk took only a part of the line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sync(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, line)
    _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int, line: bytes = b"") -> None:
    file = os.open(path, flags, 0o666)  # less the umask, as any new file
    try:
        if line and os.write(file, line) != len(line):
            raise OSError(f"{path}: the disk took only a part of a record")
        os.fsync(file)
    finally:
        os.close(file)
