"""Training and sampling backends that each break one promise of their port, under their port's suite.

Not collected with the other tests: `test_contracts_catch.py` runs this file and expects exactly these failures.
"""

import random
from contextlib import suppress
from dataclasses import replace

import pytest

from crucible.ports.datum import Datum, TensorData
from crucible.ports.future import Future
from crucible.testing import contracts, fakes
from crucible.testing.fakes.weights import FakeWeights, WeightsShelf


class _Training(contracts.TrainingClientContract):
    broken: type = fakes.FakeTrainingClient
    broken_sampler: type = fakes.FakeSamplingClient

    @pytest.fixture
    def client(self):
        client = self.broken()
        yield client
        client.close()

    @pytest.fixture
    def sampling(self, client):
        sampling = self.broken_sampler(shelf=client._shelf)
        yield sampling
        sampling.close()

    @pytest.fixture
    def model(self):
        return "a-model"

    @pytest.fixture
    def missing_model(self):
        return " "


class TestAveragesLosses(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, adapter, datums, *rest):
            output, gradient = super()._score(adapter, datums, *rest)
            return replace(output, metrics={"loss:sum": output.metrics["loss:sum"] / len(datums)}), gradient


class TestReversesOutputs(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, *arguments):
            output, gradient = super()._score(*arguments)
            return replace(output, loss_fn_outputs=output.loss_fn_outputs[::-1]), gradient


class TestNamesMetricsWithoutReduction(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, *arguments):
            output, gradient = super()._score(*arguments)
            return replace(output, metrics={**output.metrics, "tokens": 1.0}), gradient


class TestIsNotExact(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, *arguments):
            output, gradient = super()._score(*arguments)
            metrics = {"loss:sum": output.metrics["loss:sum"] + 1e-7 * random.random()}
            return replace(output, metrics=metrics), gradient


class TestClipsNothing(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, adapter, datums, loss_fn, *rest):
            return super()._score(adapter, datums, "importance_sampling" if loss_fn == "ppo" else loss_fn, *rest)

        def capabilities(self):
            return replace(super().capabilities(), losses=frozenset({"cross_entropy", "ppo"}))


class TestTrainsOnPrompts(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, adapter, datums, loss_fn, *rest):
            output, gradient = super()._score(adapter, datums, loss_fn, *rest)
            penalty = 0.1 * (loss_fn == "dro")
            moved = [
                {**item, "elementwise_loss": TensorData(item["elementwise_loss"].data + penalty)}
                for item in output.loss_fn_outputs
            ]
            return replace(output, loss_fn_outputs=moved), gradient


class TestLosesTheGradientOfOneLoss(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, adapter, datums, loss_fn, *rest):
            output, gradient = super()._score(adapter, datums, loss_fn, *rest)
            return output, 0.0 if loss_fn == "gspo" else gradient


class TestTakesTensorsThatItDoesNotRead(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, adapter, datums, *rest):
            known = [
                Datum(d.model_input, {n: t for n, t in d.loss_fn_inputs.items() if n != "no_such_tensor"})
                for d in datums
            ]
            return super()._score(adapter, known, *rest)


class TestScoresTheFirstOfSeveralTargets(_Training):
    class broken(fakes.FakeTrainingClient):
        def _score(self, *arguments):
            output, gradient = super()._score(*arguments)
            first = [
                {**item, "logprobs": TensorData(item["logprobs"].data.T[:1].T + 0 * item["logprobs"].data)}
                if len(item["logprobs"].shape) == 2
                else item
                for item in output.loss_fn_outputs
            ]
            return replace(output, loss_fn_outputs=first), gradient


class TestKeepsGradients(_Training):
    class broken(fakes.FakeTrainingClient):
        def _step(self, adapter, params):
            gradient = adapter.gradient
            output = super()._step(adapter, params)
            adapter.gradient = gradient
            return output


class TestCountsNoSteps(_Training):
    class broken(fakes.FakeTrainingClient):
        def _step(self, adapter, params):
            output = super()._step(adapter, params)
            adapter.weights = replace(adapter.weights, policy_version=0)
            return output


class TestForwardTrains(_Training):
    class broken(fakes.FakeTrainingClient):
        def forward(self, session, datums, **options):
            return self.forward_backward(session, datums, **options)


class TestRunsCallsOutOfOrder(_Training):
    class broken(fakes.FakeTrainingClient):
        def optim_step(self, session, params):
            return Future.ready(self._step(self._adapter(session), params))


class TestForgetsOnLoad(_Training):
    class broken(fakes.FakeTrainingClient):
        def _load(self, adapter, *arguments):
            gradient = adapter.gradient
            super()._load(adapter, *arguments)
            adapter.gradient = gradient


class TestSnapshotsFollowTraining(_Training):
    class broken(fakes.FakeTrainingClient):
        def _step(self, adapter, params):
            output = super()._step(adapter, params)
            for path in self._shelf._memory:
                self._shelf._memory[path] = adapter.weights
            return output


class _Overwriting(WeightsShelf):
    def save(self, weights, *, overwrite=False, **where):  # noqa: ARG002  (the fault)
        return super().save(weights, overwrite=True, **where)


class TestOverwritesCheckpoints(_Training):
    class broken(fakes.FakeTrainingClient):
        def __init__(self):
            super().__init__(shelf=_Overwriting())


class TestRaisesAtSubmission(_Training):
    class broken(fakes.FakeTrainingClient):
        def forward_backward(self, session, datums, **options):
            future = super().forward_backward(session, datums, **options)
            future.result()
            return future


class TestHalfAppliesFailedCalls(_Training):
    class broken(fakes.FakeTrainingClient):
        def forward_backward(self, session, datums, **options):
            for datum in datums[:-1]:
                super().forward_backward(session, [datum], **options)
            return super().forward_backward(session, datums[-1:], **options)


class TestServesTheBaseModel(_Training):
    class broken_sampler(fakes.FakeSamplingClient):
        def _weights(self, session):
            return FakeWeights(model=super()._weights(session).model, lora_rank=0)


class TestForgetsWhichWeights(_Training):
    class broken_sampler(fakes.FakeSamplingClient):
        def _start(self, *arguments):
            return replace(super()._start(*arguments), digest="", policy_version=0)


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
    class broken(fakes.FakeSamplingClient):
        def _draw(self, weights, prompt, params, seed, index):  # noqa: ARG002  (the fault)
            return super()._draw(weights, prompt, params, 0, 0)


class TestLeansOnNeighbours(_Sampling):
    class broken(fakes.FakeSamplingClient):
        longest = 0

        def _draw(self, weights, prompt, params, seed, index):
            self.longest = max(self.longest, params.max_tokens)
            return super()._draw(weights, prompt, params, seed + (self.longest > 20), index)


class TestDropsStopTokens(_Sampling):
    class broken(fakes.FakeSamplingClient):
        def _draw(self, *arguments):
            drawn = super()._draw(*arguments)
            kept = len(drawn.tokens) - (drawn.stop_reason == "stop")
            return replace(drawn, tokens=drawn.tokens[:kept], logprobs=drawn.logprobs[:kept])


class TestIgnoresTheReport(_Sampling):
    class broken(fakes.FakeSamplingClient):
        def sample(self, session, prompt, *, report=None, **options):  # noqa: ARG002  (the fault)
            return super().sample(session, prompt, **options)


class TestShiftsTheTargets(_Sampling):
    class broken(fakes.FakeSamplingClient):
        def sample(self, session, prompt, *, report=None, **options):
            if report and report.target_prompt_logprobs and len(report.target_prompt_logprobs.shape) == 2:
                moved = TensorData(report.target_prompt_logprobs.data[::-1].copy())
                report = replace(report, target_prompt_logprobs=moved)
            return super().sample(session, prompt, report=report, **options)


class TestScoresAllOfThePrompt(_Sampling):
    class broken(fakes.FakeSamplingClient):
        def sample(self, session, prompt, *, report=None, **options):
            last = report and report.prompt_logprobs_last_n
            if last is not None and 0 < last < prompt.length:
                report = replace(report, prompt_logprobs_last_n=None)
            return super().sample(session, prompt, report=report, **options)


class TestTellsOfTheFirstCompletionAlone(_Sampling):
    class broken(fakes.FakeSamplingClient):
        def sample(self, session, prompt, *, on_token=None, **options):
            first = on_token and (lambda index, token: None if index else on_token(index, token))
            return super().sample(session, prompt, on_token=first, **options)


class TestGoesOnWithoutItsListener(_Sampling):
    class broken(fakes.FakeSamplingClient):
        def sample(self, session, prompt, *, on_token=None, **options):
            def heard(index, token):
                with suppress(Exception):
                    on_token(index, token)

            return super().sample(session, prompt, on_token=on_token and heard, **options)
