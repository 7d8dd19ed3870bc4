"""Every contract suite, over every fake and every adapter of data sets, blobs, metrics and hubs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pytest
from hub_server import Hub, serving
from pyarrow import parquet

from crucible.adapters.blobs import LocalBlobStore
from crucible.adapters.datasets import HfDatasetsStore, LocalFilesStore, MemoryStore, PackagedStore, RoutedStore
from crucible.adapters.hub import HfHubClient
from crucible.adapters.metrics import JsonlMetricsStore
from crucible.testing import contracts, fakes

ROWS = [{"question": f"q{number}", "answer": f"a{number}"} for number in range(6)]


def write_jsonl(path: Path, rows=ROWS) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class TestFakeTrainingClient(contracts.TrainingClientContract):
    @pytest.fixture
    def backend(self) -> Iterator[fakes.FakeBackend]:
        backend = fakes.FakeBackend()
        yield backend
        backend.close()

    @pytest.fixture
    def client(self, backend):
        return backend.training_client

    @pytest.fixture
    def sampling(self, backend):
        return backend.sampling_client

    @pytest.fixture
    def model(self):
        return "a-model"

    @pytest.fixture
    def other_model(self):
        return "another-model"

    @pytest.fixture
    def missing_model(self):
        return " "


class TestFakeTrainingClientOnDisk(TestFakeTrainingClient):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[fakes.FakeBackend]:
        backend = fakes.FakeBackend(checkpoint_dir=tmp_path / "checkpoints", latency=0.001)
        yield backend
        backend.close()


class TestFakeSamplingClient(contracts.SamplingClientContract):
    @pytest.fixture
    def client(self) -> Iterator[fakes.FakeSamplingClient]:
        client = fakes.FakeSamplingClient()
        yield client
        client.close()

    @pytest.fixture
    def model(self):
        return "a-model"

    @pytest.fixture
    def missing_model(self):
        return " "


class TestFakeTokenizer(contracts.TokenizerContract):
    @pytest.fixture
    def tokenizer(self):
        return fakes.FakeTokenizer()

    @pytest.fixture
    def refused_messages(self):
        return [{"role": "user"}]


class TestFakeTokenizerStore(contracts.TokenizerStoreContract):
    @pytest.fixture
    def store(self):
        return fakes.FakeTokenizerStore()

    @pytest.fixture
    def model(self):
        return "a-model"

    @pytest.fixture
    def missing_model(self):
        return " "


class TestFakeDatasetStore(contracts.DatasetStoreContract):
    @pytest.fixture
    def store(self):
        return fakes.FakeDatasetStore()

    @pytest.fixture
    def reference(self):
        return "gsm8k"

    @pytest.fixture
    def missing(self):
        return " "


class TestFakeBlobStore(contracts.BlobStoreContract):
    @pytest.fixture
    def store(self):
        return fakes.FakeBlobStore()


class TestFakeMetricsStore(contracts.MetricsStoreContract):
    @pytest.fixture
    def store(self):
        return fakes.FakeMetricsStore()


class TestFakeHubClient(contracts.HubClientContract):
    @pytest.fixture
    def client(self):
        return fakes.FakeHubClient()

    @pytest.fixture
    def repo_id(self):
        return "someone/something"


class TestLocalJsonl(contracts.DatasetStoreContract):
    @pytest.fixture
    def store(self):
        return LocalFilesStore()

    @pytest.fixture
    def reference(self, tmp_path):
        write_jsonl(tmp_path / "rows.jsonl")
        return str(tmp_path / "rows.jsonl")

    @pytest.fixture
    def missing(self, tmp_path):
        return str(tmp_path / "missing.jsonl")


class TestLocalCsv(TestLocalJsonl):
    @pytest.fixture
    def reference(self, tmp_path):
        lines = [",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)]
        (tmp_path / "rows.csv").write_text("\n".join(lines))
        return str(tmp_path / "rows.csv")


class TestLocalParquet(TestLocalJsonl):
    @pytest.fixture
    def reference(self, tmp_path):
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
        return str(tmp_path / "rows.parquet")


class TestLocalJsonSplits(TestLocalJsonl):
    @pytest.fixture
    def reference(self, tmp_path):
        (tmp_path / "rows.json").write_text(json.dumps({"train": ROWS[:1], "test": ROWS}))
        return str(tmp_path / "rows.json")

    @pytest.fixture
    def split(self):
        return "test"


class TestLocalFolder(TestLocalJsonl):
    @pytest.fixture
    def reference(self, tmp_path):
        write_jsonl(tmp_path / "train.jsonl")
        write_jsonl(tmp_path / "test.jsonl", ROWS[:2])
        return str(tmp_path)


class TestHfDatasets(contracts.DatasetStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return HfDatasetsStore(cache_dir=tmp_path / "cache")

    @pytest.fixture
    def reference(self, tmp_path):
        (tmp_path / "data").mkdir()
        write_jsonl(tmp_path / "data" / "train.jsonl")
        return str(tmp_path / "data")

    @pytest.fixture
    def missing(self, tmp_path):
        return str(tmp_path / "missing")


class TestPackaged(contracts.DatasetStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        write_jsonl(tmp_path / "gsm8k.jsonl")
        return PackagedStore(fetch=lambda name: tmp_path / f"{name}.jsonl")

    @pytest.fixture
    def reference(self):
        return "gsm8k"

    @pytest.fixture
    def missing(self):
        return "no such name"


class TestMemory(contracts.DatasetStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore({"mine": {"train": ROWS, "test": ROWS[:1]}})

    @pytest.fixture
    def reference(self):
        return "mine"

    @pytest.fixture
    def missing(self):
        return "yours"


class TestRouted(TestMemory):
    @pytest.fixture
    def store(self):
        return RoutedStore([LocalFilesStore(), MemoryStore({"mine": {"train": ROWS}}), HfDatasetsStore()])


class TestLocalBlobs(contracts.BlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalBlobStore(tmp_path / "blobs")


class TestJsonlMetrics(contracts.MetricsStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = JsonlMetricsStore(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: JsonlMetricsStore(tmp_path)


class TestJsonlMetricsOfOneRun(TestJsonlMetrics):
    """In the run's own folder, which has the run's name."""

    @pytest.fixture
    def store(self, tmp_path):
        store = JsonlMetricsStore(tmp_path / "run")
        yield store
        store.close()

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: JsonlMetricsStore(tmp_path / "run")


class TestHfHub(contracts.HubClientContract):
    @pytest.fixture
    def client(self, tmp_path, monkeypatch):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        with serving(Hub(token="sesame")) as url:
            yield HfHubClient(endpoint=url, token="sesame", cache_dir=tmp_path / "cache")

    @pytest.fixture
    def repo_id(self):
        return "someone/something"
