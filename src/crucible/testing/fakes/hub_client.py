"""Which hub is there without a network? `FakeHubClient`: repositories in a folder, a commit per upload."""

import fnmatch
import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from crucible.errors import PortError
from crucible.ports.hub_client import HubClient, RepoInfo, RepoType


class FakeHubClient(HubClient):
    """Starts empty; what is uploaded can be downloaded, at every revision.

    root: where the repositories are kept; None is a temporary folder that goes with this object.
    """

    adapter_name: ClassVar[str] = "noop"
    is_noop: ClassVar[bool] = True

    def __init__(self, *, root: Path | None = None) -> None:
        self._root = root or Path(tempfile.mkdtemp(prefix="fake-hub-"))
        if root is None:
            weakref.finalize(self, shutil.rmtree, self._root, ignore_errors=True)
        self._infos: dict[tuple[RepoType, str], list[RepoInfo]] = {}

    def download(
        self, repo_id: str, filename: str, *, revision: str | None = None, repo_type: RepoType = "model"
    ) -> Path:
        info = self.info(repo_id, revision=revision, repo_type=repo_type)
        if filename not in self.list_files(repo_id, revision=info.revision, repo_type=repo_type):
            raise self._missing(f"{repo_id} has no file {filename}")
        return self._folder(info, repo_type) / filename

    def snapshot(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        repo_type: RepoType = "model",
        allow_patterns: Sequence[str] | None = None,
    ) -> Path:
        whole = self._folder(self.info(repo_id, revision=revision, repo_type=repo_type), repo_type)
        if allow_patterns is None:
            return whole
        name = hashlib.sha256(repr(sorted(allow_patterns)).encode()).hexdigest()[:12]
        part = whole.with_name(f"{whole.name}-{name}")
        for file in _files(whole):
            if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                (part / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(whole / file, part / file)
        part.mkdir(exist_ok=True)
        return part

    def list_files(self, repo_id: str, *, revision: str | None = None, repo_type: RepoType = "model") -> list[str]:
        return _files(self._folder(self.info(repo_id, revision=revision, repo_type=repo_type), repo_type))

    def upload(
        self,
        repo_id: str,
        folder: Path,
        *,
        repo_type: RepoType = "model",
        message: str = "",
        private: bool = True,
    ) -> str:
        if not folder.is_dir():
            raise self._missing(f"there is no folder {folder} to upload")
        history = self._infos.setdefault((repo_type, repo_id), [])
        digest = hashlib.sha1(f"{repo_id} {len(history)} {message}".encode(), usedforsecurity=False)
        for file in _files(folder):
            digest.update(file.encode() + (folder / file).read_bytes())
        info = RepoInfo(repo_id=repo_id, revision=digest.hexdigest(), private=private)
        if history:  # a commit adds to what is there
            shutil.copytree(self._folder(history[-1], repo_type), self._folder(info, repo_type))
        shutil.copytree(folder, self._folder(info, repo_type), dirs_exist_ok=True)
        history.append(info)
        return info.revision

    def info(self, repo_id: str, *, revision: str | None = None, repo_type: RepoType = "model") -> RepoInfo:
        history = self._infos.get((repo_type, repo_id), [])
        if not history:
            raise self._missing(f"there is no {repo_type} {repo_id}")
        if revision in (None, "main"):
            return history[-1]
        for info in history:
            if info.revision == revision:
                return info
        raise self._missing(f"{repo_id} has no revision {revision}")

    def _folder(self, info: RepoInfo, repo_type: RepoType) -> Path:
        return self._root / repo_type / info.repo_id / info.revision

    def _missing(self, message: str) -> PortError:
        return PortError(message, port=self.port_name, adapter="noop")


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
