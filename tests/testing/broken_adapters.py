"""Adapters that each break one promise of their port, under their port's suite.

Not collected with the other tests: `test_contracts_catch.py` runs this file and expects exactly these failures.
"""

import itertools
import random
from dataclasses import replace

import pytest

from crucible.ports.future import Future
from crucible.ports.tokenizer import Encoding
from crucible.testing import contracts, fakes
from crucible.testing.fakes.weights import WeightsShelf


class _Training(contracts.TrainingClientContract):
    broken: type

    @pytest.fixture
    def client(self):
        client = self.broken()
        yield client
        client.close()

    @pytest.fixture
    def sampling(self, client):
        sampling = fakes.FakeSamplingClient(shelf=client._shelf)
        yield sampling
        sampling.close()

    @pytest.fixture
    def model(self):
        return "a-model"

    @pytest.fixture
    def missing_model(self):
        return " "


class AveragesLosses(fakes.FakeTrainingClient):
    def _score(self, adapter, datums, *rest):
        output = super()._score(adapter, datums, *rest)
        return replace(output, metrics={"loss:sum": output.metrics["loss:sum"] / len(datums)})


class ReversesOutputs(fakes.FakeTrainingClient):
    def _score(self, *arguments):
        output = super()._score(*arguments)
        return replace(output, loss_fn_outputs=output.loss_fn_outputs[::-1])


class NamesMetricsWithoutReduction(fakes.FakeTrainingClient):
    def _score(self, *arguments):
        output = super()._score(*arguments)
        return replace(output, metrics={**output.metrics, "tokens": 1.0})


class KeepsGradients(fakes.FakeTrainingClient):
    def _step(self, adapter, params):
        gradient = adapter.gradient
        output = super()._step(adapter, params)
        adapter.gradient = gradient
        return output


class ForwardTrains(fakes.FakeTrainingClient):
    def forward(self, session, datums, **options):
        return self.forward_backward(session, datums, **options)


class RunsCallsOutOfOrder(fakes.FakeTrainingClient):
    def optim_step(self, session, params):
        return Future.ready(self._step(self._adapter(session), params))


class ForgetsOnLoad(fakes.FakeTrainingClient):
    def _load(self, adapter, path, optimizer):
        gradient = adapter.gradient
        super()._load(adapter, path, optimizer)
        adapter.gradient = gradient


class SnapshotsFollowTraining(fakes.FakeTrainingClient):
    def _step(self, adapter, params):
        output = super()._step(adapter, params)
        for path in self._shelf._memory:
            self._shelf._memory[path] = adapter.weights
        return output


class _Overwriting(WeightsShelf):
    def save(self, weights, *, kind, name):
        self._memory.pop(f"memory:{kind}/{name}", None)
        return super().save(weights, kind=kind, name=name)


class OverwritesCheckpoints(fakes.FakeTrainingClient):
    def __init__(self):
        super().__init__(shelf=_Overwriting())


class RaisesAtSubmission(fakes.FakeTrainingClient):
    def forward_backward(self, session, datums, **options):
        future = super().forward_backward(session, datums, **options)
        future.result()
        return future


class HalfAppliesFailedCalls(fakes.FakeTrainingClient):
    def forward_backward(self, session, datums, **options):
        for datum in datums[:-1]:
            super().forward_backward(session, [datum], **options)
        return super().forward_backward(session, datums[-1:], **options)


class IsNotExact(fakes.FakeTrainingClient):
    def _score(self, *arguments):
        output = super()._score(*arguments)
        return replace(output, metrics={"loss:sum": output.metrics["loss:sum"] + 1e-7 * random.random()})


class TestAveragesLosses(_Training):
    broken = AveragesLosses


class TestReversesOutputs(_Training):
    broken = ReversesOutputs


class TestNamesMetricsWithoutReduction(_Training):
    broken = NamesMetricsWithoutReduction


class TestKeepsGradients(_Training):
    broken = KeepsGradients


class TestForwardTrains(_Training):
    broken = ForwardTrains


class TestRunsCallsOutOfOrder(_Training):
    broken = RunsCallsOutOfOrder


class TestForgetsOnLoad(_Training):
    broken = ForgetsOnLoad


class TestSnapshotsFollowTraining(_Training):
    broken = SnapshotsFollowTraining


class TestOverwritesCheckpoints(_Training):
    broken = OverwritesCheckpoints


class TestRaisesAtSubmission(_Training):
    broken = RaisesAtSubmission


class TestHalfAppliesFailedCalls(_Training):
    broken = HalfAppliesFailedCalls


class TestIsNotExact(_Training):
    broken = IsNotExact


class IgnoresSeeds(fakes.FakeSamplingClient):
    def _draw(self, weights, prompt, params, seed, index):  # noqa: ARG002  (the fault)
        return super()._draw(weights, prompt, params, 0, 0)


class DropsStopTokens(fakes.FakeSamplingClient):
    def _draw(self, *arguments):
        drawn = super()._draw(*arguments)
        kept = len(drawn.tokens) - (drawn.stop_reason == "stop")
        return replace(drawn, tokens=drawn.tokens[:kept], logprobs=drawn.logprobs[:kept])


class _Sampling(contracts.SamplingClientContract):
    broken: type

    @pytest.fixture
    def client(self):
        client = self.broken()
        yield client
        client.close()

    @pytest.fixture
    def model(self):
        return "a-model"

    @pytest.fixture
    def missing_model(self):
        return " "


class TestIgnoresSeeds(_Sampling):
    broken = IgnoresSeeds


class TestDropsStopTokens(_Sampling):
    broken = DropsStopTokens


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
