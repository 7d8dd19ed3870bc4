"""Are saved weights safe before they are recorded, and is what a kill leaves behind put in order?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from crucible.adapters.blobs import LocalBlobStore
from crucible.errors import CheckpointError
from crucible.ports.training_client import SavedWeights
from crucible.server.vault import Vault
from crucible.store.database import Database
from crucible.store.server_records import CheckpointRecord, RunRecord, SessionRecord
from crucible.store.server_store import ServerStore
from crucible.store.server_tables import SERVER

RUN = RunRecord(
    run_id="s:train:0",
    owner="me",
    session_id="s",
    base_model="m",
    reference="r",
    lora={},
    created_at=1.0,
    last_request_at=1.0,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ServerStore]:
    with ServerStore(Database(f"sqlite:///{tmp_path / 'server.db'}", schema=SERVER)) as opened:
        opened.add_session(SessionRecord(session_id="s", owner="me", created_at=1.0))
        opened.add_run(RUN)
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def _written(folder: Path, name: str, kind: str = "weights") -> SavedWeights:
    """What an engine leaves of a checkpoint."""
    place = folder / kind / name
    place.mkdir(parents=True)
    (place / "adapter.safetensors").write_bytes(b"a" * 100)
    (place / "checkpoint.json").write_bytes(b"{}")
    return SavedWeights(path=str(place), kind="weights", digest="d")


def _record(vault: Vault, saved: SavedWeights, name: str, *, overwrite: bool = False) -> CheckpointRecord:
    kept = vault.keep(saved)
    record = CheckpointRecord(
        run_id=RUN.run_id,
        kind="weights",
        name=name,
        owner="me",
        engine_path=kept.engine_path,
        digest=saved.digest,
        policy_version=1,
        size_bytes=kept.size_bytes,
        created_at=2.0,
    )
    vault.record(record, overwrite=overwrite)
    return record


def test_weights_stay_where_the_engine_wrote_them(store: ServerStore, folder: Path) -> None:
    vault = Vault(store=store, folder=folder)
    saved = _written(folder, "00")
    record = _record(vault, saved, "final")
    assert (record.engine_path, record.size_bytes) == ("weights/00", 102)
    assert vault.open(record) == saved.path
    assert sorted(vault.files(record)) == ["adapter.safetensors", "checkpoint.json"]


def test_a_data_folder_may_be_moved(store: ServerStore, folder: Path, tmp_path: Path) -> None:
    record = _record(Vault(store=store, folder=folder), _written(folder, "00"), "final")
    folder.rename(tmp_path / "elsewhere")
    assert Vault(store=store, folder=tmp_path / "elsewhere").open(record) == str(tmp_path / "elsewhere/weights/00")


def test_what_a_kill_left_between_files_and_record_is_taken_away(store: ServerStore, folder: Path) -> None:
    vault = Vault(store=store, folder=folder)
    record = _record(vault, _written(folder, "00"), "final")
    _written(folder, "01")
    _written(folder, "02", kind="sampler_weights")
    (folder / "weights" / ".03.partial").mkdir()
    assert vault.recover().orphans == 2
    assert sorted(path.name for path in folder.glob("*/*")) == ["00"]
    assert vault.open(record)


def test_a_record_whose_files_are_gone_is_said_and_kept(store: ServerStore, folder: Path) -> None:
    vault = Vault(store=store, folder=folder)
    record = _record(vault, _written(folder, "00"), "final")
    (folder / "weights" / "00").rename(folder / "aside")
    assert vault.recover().missing == (record.tinker_path,)
    with pytest.raises(CheckpointError, match="the checkpoint's files are gone"):
        vault.open(record)
    (folder / "aside").rename(folder / "weights" / "00")
    assert vault.recover().missing == ()


def test_what_is_overwritten_loses_its_files_and_what_is_refused_its_own(store: ServerStore, folder: Path) -> None:
    vault = Vault(store=store, folder=folder)
    _record(vault, _written(folder, "00"), "final")
    _record(vault, _written(folder, "01"), "final", overwrite=True)
    with pytest.raises(CheckpointError, match="a checkpoint of this name exists"):
        _record(vault, _written(folder, "02"), "final")
    assert [path.name for path in folder.glob("weights/*")] == ["01"]


def test_shared_files_go_with_the_last_record_that_has_them(store: ServerStore, folder: Path) -> None:
    vault = Vault(store=store, folder=folder)
    record = _record(vault, _written(folder, "00"), "final")
    copy = replace(record, name="copy")
    vault.share(record, copy)
    assert vault.forget(record)
    assert Path(vault.open(copy)).is_dir()
    assert vault.forget(copy)
    assert not Path(folder / "weights" / "00").exists()
    assert not vault.forget(copy)
    with pytest.raises(CheckpointError, match="the checkpoint is gone"):
        vault.share(record, replace(record, name="another"))


def test_with_a_blob_store_a_folder_that_is_gone_is_fetched_again(
    store: ServerStore, folder: Path, tmp_path: Path
) -> None:
    blobs = LocalBlobStore(tmp_path / "blobs")
    vault = Vault(store=store, folder=folder, blobs=blobs)
    record = _record(vault, _written(folder, "00"), "final")
    assert blobs.list() == ["checkpoints/weights/00/adapter.safetensors", "checkpoints/weights/00/checkpoint.json"]
    elsewhere = Vault(store=store, folder=tmp_path / "another machine", blobs=blobs)
    assert elsewhere.recover().missing == ()
    assert (Path(elsewhere.open(record)) / "adapter.safetensors").read_bytes() == b"a" * 100
    assert elsewhere.forget(record)
    assert blobs.list() == []


@pytest.mark.parametrize("path", ["../x", "weights/..", "weights/a/b", "/etc", "other/00", "weights/"])
def test_a_record_that_names_a_folder_elsewhere_is_refused(store: ServerStore, folder: Path, path: str) -> None:
    vault = Vault(store=store, folder=folder)
    record = _record(vault, _written(folder, "00"), "final")
    with pytest.raises(CheckpointError, match="names a folder that no engine wrote"):
        vault.open(replace(record, engine_path=path))
