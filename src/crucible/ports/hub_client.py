"""Where are models and data sets published? A `HubClient`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from crucible.ports.port import Port

RepoType: TypeAlias = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True)
class RepoInfo:
    """A repository on the hub; `revision` is the commit that `main` (or the asked revision) points to."""

    repo_id: str
    revision: str
    private: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


class HubClient(Port):
    """A model hub. Downloads are cached: the same revision is fetched once.

    Every method raises PortError (retryable for network trouble and 5xx; not for a missing repository, a
    missing file or a refused token).
    """

    port_name: ClassVar[str] = "hub_client"

    @abstractmethod
    def download(
        self, repo_id: str, filename: str, *, revision: str | None = None, repo_type: RepoType = "model"
    ) -> Path:
        """One file, as a local path to read, not to change."""

    @abstractmethod
    def snapshot(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        repo_type: RepoType = "model",
        allow_patterns: Sequence[str] | None = None,
    ) -> Path:
        """The whole repository, or the files that match a pattern, as a local folder."""

    @abstractmethod
    def list_files(self, repo_id: str, *, revision: str | None = None, repo_type: RepoType = "model") -> list[str]:
        """The repository's file names, sorted."""

    @abstractmethod
    def upload(
        self,
        repo_id: str,
        folder: Path,
        *,
        repo_type: RepoType = "model",
        message: str = "",
        private: bool = True,
    ) -> str:
        """Create the repository if need be and commit the folder's files; returns the commit's id."""

    @abstractmethod
    def info(self, repo_id: str, *, revision: str | None = None, repo_type: RepoType = "model") -> RepoInfo:
        """What the hub says of the repository."""
