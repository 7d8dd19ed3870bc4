"""Data sets of the hub, over HTTP, from a hub that really answers (`hub_server.py`).

`datasets` reads the hub's address when it is imported, so the calls are made in a process of their own, once.
"""

import json
import os
import subprocess
import sys

import pytest
from hub_server import Hub, serving

from crucible.adapters.datasets import HfDatasetsStore
from crucible.errors import MissingExtraError

ROWS = [{"messages": [{"role": "user", "content": str(number)}]} for number in range(5)]

CALLS = """
import json
from crucible.adapters.datasets import HfDatasetsStore
from crucible.errors import DataError

store = HfDatasetsStore()
calls = {
    "load": lambda: store.to_list(store.load("me/rows")),
    "limit": lambda: store.to_list(store.load("me/rows", limit=2)),
    "stream": lambda: [dict(row) for row in store.stream("me/rows")],
    "info": lambda: [dict(store.info("me/rows").splits), store.info("me/rows").columns],
    "fingerprint": lambda: store.fingerprint("me/rows"),
    "origin": lambda: store.load("me/rows", split="test").origin(0),
    "split": lambda: store.load("me/rows", split="validation"),
    "config": lambda: store.load("me/rows:other"),
    "missing": lambda: store.load("me/missing"),
    "private": lambda: store.info("me/missing"),
    "malformed": lambda: store.load("me/malformed"),
    "malformed stream": lambda: list(store.stream("me/malformed")),
    "empty": lambda: store.load("me/empty"),
}
for name, call in calls.items():
    try:
        result = call()
    except DataError as error:
        result = f"DataError: {error}"
    print(json.dumps([name, result]))
"""


def run(**environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CALLS],
        env={**os.environ, "HF_TOKEN": "", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each call gave."""

    def lines(rows):
        return "".join(json.dumps(row) + "\n" for row in rows).encode()

    hub = Hub()
    for name, files in {
        "me/rows": {"train.jsonl": lines(ROWS), "test.jsonl": lines(ROWS[:1])},
        "me/malformed": {"train.jsonl": b'{"a": 1}\n{"a": \n'},
        "me/empty": {"nothing.md": b"no data"},
    }.items():
        hub.create("datasets", name)
        hub.commit("datasets", name, files)
    with serving(hub) as url:
        return run(HF_ENDPOINT=url, HF_HOME=str(tmp_path_factory.mktemp("hf")))


def test_the_rows_are_known_by_the_repositorys_commit(results):
    assert len(results["fingerprint"]) == 40 and int(results["fingerprint"], 16)


def test_the_rows_of_a_split_are_loaded(results):
    assert results["load"] == ROWS
    assert results["limit"] == ROWS[:2]


def test_the_rows_of_a_split_are_streamed(results):
    assert results["stream"] == ROWS


def test_info_has_splits_and_columns(results):
    splits, columns = results["info"]
    assert list(splits) == ["train", "test"]
    assert columns == ["messages"]


def test_a_row_says_its_data_set_split_and_number(results):
    assert results["origin"] == "me/rows[test] row 1"


def test_a_missing_split_lists_the_splits(results):
    assert results["split"] == "DataError: me/rows: there is no such split (given: validation). It has test, train."


def test_an_unknown_configuration_lists_the_known(results):
    assert results["config"].startswith("DataError") and "default" in results["config"]


def test_an_unknown_data_set_says_what_to_do(results):
    for call in ("missing", "private"):
        assert results[call].startswith("DataError: the hub has no such data set, or it is private (given: me/missing)")
        assert "HF_TOKEN" in results[call]


@pytest.mark.parametrize("call", ["malformed", "malformed stream", "empty"])
def test_a_data_set_that_cannot_be_read_says_why(results, call):
    assert results[call].startswith("DataError: the data set cannot be read: ")


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    for result in run(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)).values():
        assert result.startswith("DataError: the hub could not be reached")
        assert "local file" in result


@pytest.mark.parametrize(
    ("reference", "accepted"),
    [
        ("org/name", True),
        ("org/name:main", True),
        ("org-1/na.me_2", True),
        ("name", False),
        ("a/b/c", False),
        ("./data/rows.jsonl", False),
        ("/data", False),
        ("", False),
    ],
)
def test_a_hub_id_is_accepted_by_its_form(reference, accepted):
    assert HfDatasetsStore().accepts(reference) is accepted


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"crucible-kitchen\[data\]"):
        HfDatasetsStore().load("org/name")


def test_a_token_is_in_no_repr():
    assert "secret" not in repr(HfDatasetsStore(token="secret"))
