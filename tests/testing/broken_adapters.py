"""Stores and tokenizers that each break one promise of their port, under their port's suite.

Not collected with the other tests: `test_contracts_catch.py` runs this file and expects exactly these failures.
"""

import itertools

import pytest

from crucible.ports.tokenizer import Encoding
from crucible.testing import contracts, fakes


class AddsBos(fakes.FakeTokenizer):
    def encode(self, text):
        encoding = super().encode(text)
        return Encoding(ids=(256, *encoding.ids), offsets=((0, 0), *encoding.offsets))


class TestAddsBos(contracts.TokenizerContract):
    @pytest.fixture
    def tokenizer(self):
        return AddsBos()


class ShufflesAnew(fakes.FakeDatasetStore):
    seeds = itertools.count()

    def shuffle(self, rows, *, seed):
        return super().shuffle(rows, seed=seed + next(self.seeds))


class TestShufflesAnew(contracts.DatasetStoreContract):
    @pytest.fixture
    def store(self):
        return ShufflesAnew()

    @pytest.fixture
    def reference(self):
        return "gsm8k"


class ClimbsOut(fakes.FakeBlobStore):
    def write(self, key, data):
        self._blobs[key] = data


class TestClimbsOut(contracts.BlobStoreContract):
    @pytest.fixture
    def store(self):
        return ClimbsOut()


class LosesNan(fakes.FakeMetricsStore):
    def record(self, run_id, step, values):
        super().record(run_id, step, {name: value if value == value else 0.0 for name, value in values.items()})


class TestLosesNan(contracts.MetricsStoreContract):
    @pytest.fixture
    def store(self):
        return LosesNan()


class ServesTheLatestAlways(fakes.FakeHubClient):
    def download(self, repo_id, filename, *, revision=None, repo_type="model"):  # noqa: ARG002  (the fault)
        return super().download(repo_id, filename, repo_type=repo_type)


class TestServesTheLatestAlways(contracts.HubClientContract):
    @pytest.fixture
    def client(self):
        return ServesTheLatestAlways()

    @pytest.fixture
    def repo_id(self):
        return "someone/something"
