"""How does a folder appear whole or not at all?"""

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(out: Path, *, replace: bool = False) -> Generator[Path]:
    """Within: a temporary folder beside `out` to write in. After: it is on the disk, under the name `out`.

    If the block raises, nothing is left of it. replace: what `out` is by then is deleted, once the new folder is on
    the disk; a kill between the two leaves neither.

    Raises:
        FileExistsError: if `out` is there by then, is not to be replaced and is not an empty folder.
        OSError: if the folder cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(out.parent)) from error
    scratch = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield scratch
        scratch.chmod(0o755)  # mkdtemp makes it private; what is in it is for others too
        for path in [*scratch.rglob("*"), scratch]:
            _sync(path)
        if replace and out.exists():
            take_away(out)
        try:
            scratch.rename(out)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, "there is something of that name", str(out)) from error
            raise
        _sync(out.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def take_away(folder: Path) -> None:
    """Delete a folder; a kill leaves it whole or gone."""
    doomed = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")) / "deleted"
    folder.rename(doomed)
    shutil.rmtree(doomed.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
