"""What the fakes of data sets and hubs promise beyond their ports."""

import gc

from crucible.testing.fakes import FakeBlobStore, FakeDatasetStore, FakeHubClient, FakeMetricsStore


def test_rows_depend_on_reference_split_and_seed():
    store = FakeDatasetStore()
    train = store.to_list(store.load("gsm8k"))
    assert train != store.to_list(store.load("gsm8k", split="test"))
    assert train != store.to_list(store.load("gsm8k-2"))
    assert train != store.to_list(FakeDatasetStore(seed=1).load("gsm8k"))


def test_gsm8k_has_questions_and_answers_and_the_rest_messages():
    store = FakeDatasetStore()
    assert set(store.load("gsm8k")[0]) == {"question", "answer"}
    messages = store.load("conversations")[0]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]


def test_every_answer_is_right():
    for row in FakeDatasetStore().load("gsm8k"):
        work, _, result = row["answer"].partition("\n#### ")
        left, right = work.split(" = ")[0].split(" + ")
        assert int(left) + int(right) == int(result)
        assert left in row["question"] and right in row["question"]


def test_a_hub_without_a_root_takes_its_folder_along():
    hub = FakeHubClient()
    root = hub._root
    assert root.is_dir()
    del hub
    gc.collect()
    assert not root.exists()


def test_a_hub_with_a_root_keeps_it(tmp_path):
    hub = FakeHubClient(root=tmp_path)
    del hub
    gc.collect()
    assert tmp_path.is_dir()


def test_stores_are_noop_adapters():
    for fake in (FakeDatasetStore, FakeBlobStore, FakeMetricsStore, FakeHubClient):
        assert (fake.adapter_name, fake.is_noop) == ("noop", True)
