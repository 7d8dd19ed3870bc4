"""How does a packaged file get onto this machine, whole and unaltered?"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from shutil import copyfileobj
from typing import IO

from crucible.adapters.assets.home import crucible_home
from crucible.adapters.assets.table import PACKAGED, PackagedAsset
from crucible.errors import DataError, ModelError, did_you_mean


def fetch(name: str, *, home: Path | None = None) -> Path:
    """The file of the packaged asset of that name; see `fetch_asset`.

    Raises:
        DataError: if there is no such asset; otherwise as for `fetch_asset`.
    """
    if name not in PACKAGED:
        raise DataError.of(f"there is no packaged asset {name!r}, {did_you_mean(name, PACKAGED)}")
    return fetch_asset(PACKAGED[name], home=home)


def fetch_asset(asset: PackagedAsset, *, home: Path | None = None) -> Path:
    """The asset's file, to read, not to change.

    Taken from the installed package where that has the very same file, otherwise from `home` (by default
    `crucible_home()`), otherwise downloaded into `home` with pip. A file in `home` is complete and was checked:
    it appears by a rename. Two processes may fetch the same asset at once.

    Raises:
        ModelError, DataError: (by the asset's kind) if it cannot be downloaded, checked or stored.
    """
    installed = _installed_copy(asset)
    if installed is not None and file_sha256(installed) == asset.sha256:
        return installed
    folder = (home or crucible_home()) / "packages" / f"{asset.package}-{asset.version}"
    target = folder / Path(asset.member).name
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch:
            archive = _download(asset, into=Path(scratch))
            part = Path(scratch) / "member"
            _extract(asset, archive, part)
            part.replace(target)
    except OSError as error:
        raise _failure(
            asset,
            f"could not be stored: {error}",
            fix="Set CRUCIBLE_HOME to a folder that can be written and has room",
        ) from error
    return target


def file_sha256(path: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _installed_copy(asset: PackagedAsset) -> Path | None:
    """The file inside an installed package, found without importing it (its `__init__` may need what is not here)."""
    if asset.archive != "wheel":
        return None
    top, _, inside = asset.member.partition("/")
    spec = importlib.util.find_spec(top)
    for location in (spec.submodule_search_locations or []) if spec else []:
        if (Path(location) / inside).is_file():
            return Path(location) / inside
    return None


def _download(asset: PackagedAsset, *, into: Path) -> Path:
    """The package's archive, as pip fetches and checks it. Its dependencies are left alone."""
    if importlib.util.find_spec("pip") is None:
        raise _failure(
            asset,
            "needs pip, which this Python environment does not have",
            fix="Run `python -m ensurepip` in it",
        )
    size = f"{asset.archive_bytes / 1e6:.1f} MB"
    print(f"fetching {asset.name}: package {asset.package} {asset.version}, {size}, once", file=sys.stderr, flush=True)
    # A requirement with a hash has to come from a file: pip takes none on the command line.
    requirement = into / "requirement.txt"
    requirement.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.archive_sha256}\n")
    form = f"--only-binary={asset.package}" if asset.archive == "wheel" else f"--no-binary={asset.package}"
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes", form]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={into}", f"--requirement={requirement}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    found = [path for path in into.iterdir() if path != requirement]
    if done.returncode != 0 or len(found) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
        raise _failure(
            asset,
            f"could not be downloaded: pip said {said[-1] if said else 'nothing'!r}",
            fix="Check the network and the index that pip is set to",
        )
    return found[0]


def _extract(asset: PackagedAsset, archive: Path, part: Path) -> None:
    """Copy the one member to `part`, durably. No path of the archive's choosing is ever written to."""
    try:
        if asset.archive == "wheel":
            with zipfile.ZipFile(archive) as wheel, wheel.open(asset.member) as member:
                _copy(member, part)
        else:
            with tarfile.open(archive) as sdist:
                member = sdist.extractfile(asset.member)
                if member is None:
                    raise KeyError(asset.member)
                with member:
                    _copy(member, part)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise _failure(asset, f"is not in {archive.name}: {error}", fix="Report this: the table is wrong") from error
    digest = file_sha256(part)
    if digest != asset.sha256:
        raise _failure(
            asset,
            f"is not the file that was expected: its sha256 is {digest}, not {asset.sha256}",
            fix="Check where pip downloads from",
        )


def _copy(source: IO[bytes], part: Path) -> None:
    with part.open("wb") as file:
        copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())


def _failure(asset: PackagedAsset, what: str, *, fix: str) -> DataError | ModelError:
    kind = ModelError if asset.kind == "model" else DataError
    where = f"{asset.name} (package {asset.package} {asset.version})"
    return kind.of(what, where=where, fix=fix)
