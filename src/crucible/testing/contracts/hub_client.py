"""Does a hub adapter keep the whole contract of its port?"""

from collections.abc import Callable
from pathlib import Path

import pytest

from crucible.errors import PortError
from crucible.ports.hub_client import HubClient
from crucible.testing.contracts.suite import Suite, needed


class HubClientContract(Suite):
    """The contract of `crucible.ports.HubClient`.

    Fixtures that the subclass gives:
        client: the adapter.
        repo_id: a repository id that the suite may create; the repository does not exist before.
    """

    @pytest.fixture
    def client(self) -> HubClient:
        raise needed("client")

    @pytest.fixture
    def repo_id(self) -> str:
        raise needed("repo_id")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """What the suite uploads."""
        folder = tmp_path / "to-upload"
        (folder / "sub").mkdir(parents=True)
        (folder / "config.json").write_bytes(b'{"a": 1}')
        (folder / "sub" / "weights.bin").write_bytes(bytes(range(256)))
        return folder

    def test_what_was_uploaded_is_listed_and_downloaded(self, client: HubClient, repo_id: str, folder: Path) -> None:
        client.upload(repo_id, folder, message="first")
        files = client.list_files(repo_id)
        assert files == sorted(files)
        assert {"config.json", "sub/weights.bin"} <= set(files)
        assert client.download(repo_id, "config.json").read_bytes() == b'{"a": 1}'
        assert client.download(repo_id, "sub/weights.bin").read_bytes() == bytes(range(256))

    def test_a_snapshot_holds_every_file_or_those_that_match(
        self, client: HubClient, repo_id: str, folder: Path
    ) -> None:
        client.upload(repo_id, folder)
        part = client.snapshot(repo_id, allow_patterns=["*.json"])
        assert (part / "config.json").is_file()
        assert not (part / "sub" / "weights.bin").exists()
        whole = client.snapshot(repo_id)
        assert (whole / "sub" / "weights.bin").read_bytes() == bytes(range(256))

    def test_a_commit_is_a_revision_that_stays(self, client: HubClient, repo_id: str, folder: Path) -> None:
        first = client.upload(repo_id, folder, message="first")
        (folder / "config.json").write_bytes(b'{"a": 2}')
        (folder / "sub" / "weights.bin").unlink()
        second = client.upload(repo_id, folder, message="second")
        assert first != second
        assert client.info(repo_id).revision == second
        assert client.info(repo_id, revision=first).revision == first
        assert client.download(repo_id, "config.json", revision=first).read_bytes() == b'{"a": 1}'
        assert client.download(repo_id, "config.json").read_bytes() == b'{"a": 2}'
        assert "sub/weights.bin" in client.list_files(repo_id), "a commit adds; it removes nothing"

    def test_the_same_revision_is_downloaded_once(self, client: HubClient, repo_id: str, folder: Path) -> None:
        revision = client.upload(repo_id, folder)
        first = client.download(repo_id, "config.json", revision=revision)
        before = first.resolve().stat().st_mtime_ns
        again = client.download(repo_id, "config.json", revision=revision)
        assert first == again
        assert again.resolve().stat().st_mtime_ns == before

    def test_info_says_what_was_asked_at_creation(self, client: HubClient, repo_id: str, folder: Path) -> None:
        client.upload(repo_id, folder, private=True)
        info = client.info(repo_id)
        assert (info.repo_id, info.private) == (repo_id, True)

    def test_models_and_datasets_are_apart(self, client: HubClient, repo_id: str, folder: Path) -> None:
        client.upload(repo_id, folder, repo_type="dataset")
        assert "config.json" in client.list_files(repo_id, repo_type="dataset")
        with pytest.raises(PortError):
            client.list_files(repo_id, repo_type="model")

    def test_what_is_missing_is_an_error_that_trying_again_does_not_mend(
        self, client: HubClient, repo_id: str, folder: Path, tmp_path: Path
    ) -> None:
        calls: list[Callable[[], object]] = [
            lambda: client.info(repo_id),
            lambda: client.list_files(repo_id),
            lambda: client.download(repo_id, "config.json"),
            lambda: client.snapshot(repo_id),
            lambda: client.upload(repo_id, tmp_path / "no-such-folder"),
        ]
        for call in calls:
            with pytest.raises(PortError) as raised:
                call()
            assert not raised.value.retryable
        client.upload(repo_id, folder)
        for call in (
            lambda: client.download(repo_id, "no-such-file.bin"),
            lambda: client.info(repo_id, revision="no-such-revision"),
            lambda: client.download(repo_id, "config.json", revision="no-such-revision"),
        ):
            with pytest.raises(PortError) as raised:
                call()
            assert not raised.value.retryable

    def test_it_may_be_closed_twice(self, client: HubClient) -> None:
        client.close()
        client.close()
