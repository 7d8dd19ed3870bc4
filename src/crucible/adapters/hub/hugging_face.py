# pyright: standard
# (some of huggingface_hub's types are incomplete)
"""How is the Hugging Face hub reached? `HfHubClient`, over `huggingface_hub`."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from crucible.adapters.hub.token import hub_token
from crucible.errors import MissingExtraError, PortError
from crucible.ports.hub_client import HubClient, RepoInfo, RepoType

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class HfHubClient(HubClient):
    """The hub at `endpoint`.

    token: a hub token; else HF_TOKEN, else HUGGING_FACE_HUB_TOKEN, else the login of `huggingface_hub`.
    endpoint: the hub's address; else HF_ENDPOINT, else the public hub.
    cache_dir: where downloads are kept; else where `huggingface_hub` keeps its own.
    """

    adapter_name: ClassVar[str] = "hf"

    def __init__(
        self, *, token: str | None = None, endpoint: str | None = None, cache_dir: Path | str | None = None
    ) -> None:
        self._token = hub_token(token)
        self._endpoint = endpoint
        self._cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()

    def __repr__(self) -> str:
        return f"HfHubClient(endpoint={self._endpoint!r}, token={'set' if self._token else None})"

    def download(
        self, repo_id: str, filename: str, *, revision: str | None = None, repo_type: RepoType = "model"
    ) -> Path:
        with self._hub(f"downloading {filename} of {repo_id}") as hub:
            path = hub.hf_hub_download(
                repo_id, filename, revision=revision, repo_type=repo_type, cache_dir=self._cache_dir
            )
            return Path(path)

    def snapshot(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        repo_type: RepoType = "model",
        allow_patterns: Sequence[str] | None = None,
    ) -> Path:
        with self._hub(f"downloading {repo_id}") as hub:
            path = hub.snapshot_download(
                repo_id,
                revision=revision,
                repo_type=repo_type,
                allow_patterns=None if allow_patterns is None else list(allow_patterns),
                cache_dir=self._cache_dir,
            )
            return Path(path)

    def list_files(self, repo_id: str, *, revision: str | None = None, repo_type: RepoType = "model") -> list[str]:
        with self._hub(f"listing {repo_id}") as hub:
            return sorted(hub.list_repo_files(repo_id, revision=revision, repo_type=repo_type))

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
            raise PortError(f"there is no folder {folder} to upload", port=self.port_name, adapter=self.adapter_name)
        with self._hub(f"uploading to {repo_id}") as hub:
            hub.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                repo_type=repo_type,
                commit_message=message or "Upload from Crucible Kitchen",
            )
            return commit.oid

    def info(self, repo_id: str, *, revision: str | None = None, repo_type: RepoType = "model") -> RepoInfo:
        with self._hub(f"looking up {repo_id}") as hub:
            found = hub.repo_info(repo_id, revision=revision, repo_type=repo_type)
        texts = {name: getattr(found, name, None) for name in ("author", "library_name", "pipeline_tag")}
        return RepoInfo(
            repo_id=found.id,
            revision=found.sha or "",
            private=bool(found.private),
            tags=tuple(getattr(found, "tags", None) or ()),
            metadata={name: text for name, text in texts.items() if isinstance(text, str)},
        )

    @contextmanager
    def _hub(self, doing: str) -> "Generator[HfApi]":
        """The library's client, whose errors become ours inside the block.

        Raises:
            MissingExtraError: if `huggingface_hub` is not installed.
            PortError: for whatever it raises.
        """
        try:
            from huggingface_hub import HfApi, errors
        except ImportError as error:
            raise MissingExtraError.for_extra(
                "hub", needed_by="the Hugging Face hub", module="huggingface_hub"
            ) from error
        try:
            yield HfApi(endpoint=self._endpoint, token=self._token)
        except (*_library_errors(errors), OSError, ValueError) as error:
            raise PortError(
                f"{doing} failed: {' '.join(str(error).split())}",
                port=self.port_name,
                adapter=self.adapter_name,
                retryable=_retryable(error),
            ) from error


def _library_errors(errors: ModuleType) -> tuple[type[Exception], ...]:
    """Every exception of `huggingface_hub.errors`; the HTTP library's own base class, imported there, is one."""
    return tuple(kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _retryable(error: BaseException | None) -> bool:
    """Network trouble, 429 and 5xx may pass; a missing repository, a refused token or offline mode do not."""
    from huggingface_hub import errors

    if error is None or isinstance(error, errors.OfflineModeIsEnabled):
        return False
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    http_error = errors.HfHubHTTPError.__bases__[0]  # of whichever HTTP library this version stands on
    if isinstance(error, (http_error, ConnectionError, TimeoutError)):
        return True
    return _retryable(error.__cause__)  # why the library gave up
