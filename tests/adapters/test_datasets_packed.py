"""Is a packaged data set that comes packed read like any other?"""

import gzip
from pathlib import Path

import pytest

from crucible.adapters.assets import PACKAGED
from crucible.adapters.datasets import PackagedStore
from crucible.errors import DataError


def store_over(path: Path) -> PackagedStore:
    return PackagedStore(fetch=lambda _: path)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRUCIBLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_packed_file_is_unpacked_once_and_its_rows_are_read(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "one"}\n{"prompt": "two"}\n'))
    store = store_over(path)
    assert store.to_list(store.load("human_eval")) == [{"prompt": "one"}, {"prompt": "two"}]
    assert store.load("human_eval").origin(1).endswith("HumanEval.jsonl:2")
    assert [file.name for file in home.rglob("*") if file.is_file()] == ["HumanEval.jsonl"]


def test_another_file_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "HumanEval.jsonl.gz"
    for word in ("one", "other"):
        path.write_bytes(gzip.compress(f'{{"prompt": "{word}"}}\n'.encode()))
        assert store_over(path).load("human_eval")[0] == {"prompt": word}


@pytest.mark.parametrize(
    "damage", [b"no gzip at all", gzip.compress(b"x" * 999)[:-9], b""], ids=["no gzip", "cut off", "empty"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(damage)
    with pytest.raises(DataError, match=r"cannot be unpacked|empty|no rows"):
        store_over(path).load("human_eval")


@pytest.mark.slow
def test_human_eval_comes_from_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRUCIBLE_HOME")
    rows = PackagedStore().load("human_eval")
    assert (len(rows), PACKAGED["human_eval"].license) == (164, "MIT")
    assert {"prompt", "test", "entry_point", "canonical_solution"} <= set(rows[0])
