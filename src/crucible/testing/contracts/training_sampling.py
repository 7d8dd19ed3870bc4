"""Do a backend's trainer and sampler speak of the same weights, by number and by name?"""

import numpy as np
import pytest

from crucible.errors import StaleWeightsError
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.sampling_client import SamplingClient, SamplingParams
from crucible.ports.training_client import SavedWeights, SessionConfig, TrainingClient, TrainingSession
from crucible.testing.contracts.sequences import STEP, WAIT, array
from crucible.testing.contracts.suite import NotExercised
from crucible.testing.contracts.training_checkpoints import TrainingCheckpoints

PARAMS = SamplingParams(max_tokens=12, temperature=0.8, seed=3, stop=[])


class TrainingAndSampling(TrainingCheckpoints):
    """`save_weights_for_sampler`, and what a sampling session opened from it says. Fixture: `sampling`."""

    @pytest.fixture
    def sampling(self) -> SamplingClient | None:
        """A sampling client of the same backend; without one, opening saved weights is not exercised."""
        return None

    @pytest.fixture
    def sampler(self, sampling: SamplingClient | None, not_exercised: NotExercised) -> SamplingClient | None:
        """`sampling`; that it is missing is recorded."""
        if sampling is None:
            not_exercised("opening saved weights: the suite has no sampling client of this backend")
        return sampling

    @pytest.fixture
    def saved(self, client: TrainingClient, session: TrainingSession, datums: list[Datum]) -> SavedWeights:
        """What a sampler opens, after two updates."""
        for _ in range(2):
            self.train(client, session, datums)
        return client.save_weights_for_sampler(session, "first").result(WAIT)

    def test_optimizer_steps_are_counted_saved_and_loaded(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        versions = [client.save_checkpoint(session, "none").result(WAIT).policy_version]
        for name in ("one", "two"):
            self.train(client, session, datums)
            last = client.save_checkpoint(session, name).result(WAIT)
            versions.append(last.policy_version)
        assert versions == [0, 1, 2]
        for optimizer in (True, False):
            fresh = client.start_session(config).result(WAIT)
            client.load_checkpoint(fresh, last.path, optimizer=optimizer).result(WAIT)
            assert client.save_weights_for_sampler(fresh, f"loaded-{optimizer}").result(WAIT).policy_version == 2
            client.optim_step(fresh, STEP).result(WAIT)
            assert client.save_weights_for_sampler(fresh, f"on-{optimizer}").result(WAIT).policy_version == 3

    def test_weights_for_a_sampler_have_a_digest_of_their_own(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], saved: SavedWeights
    ) -> None:
        self.train(client, session, datums)
        later = client.save_weights_for_sampler(session, "second").result(WAIT)
        assert (saved.kind, saved.policy_version, later.policy_version) == ("sampler_weights", 2, 3)
        assert saved.digest and later.digest and saved.digest != later.digest

    def test_a_sampler_opens_the_weights_as_saved_and_training_cannot_move_them(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], sampler: SamplingClient | None
    ) -> None:
        if sampler is None:
            return
        self.train(client, session, datums)
        trained = client.forward(session, datums[1:])
        saved = client.save_weights_for_sampler(session, "one").result(WAIT)
        before = sampler.start_session(model_path=saved.path).result(WAIT)
        self.train(client, session, datums)
        client.forward(session, datums).result(WAIT)
        after = sampler.start_session(model_path=saved.path).result(WAIT)
        inputs, targets = datums[1].model_input.to_ints(), datums[1].loss_fn_inputs["target_tokens"].tolist()
        whole = ModelInput.from_ints([*inputs, int(targets[-1])])
        expected = pytest.approx(array(trained.result(WAIT), 0).tolist(), abs=self.tolerance)
        for opened in (before, after):
            logprobs = sampler.compute_logprobs(opened, whole).result(WAIT)
            assert logprobs[0] is None
            assert list(logprobs[1:]) == expected

    def test_sampled_logprobs_are_the_trainers_alone_and_in_any_batch(
        self,
        client: TrainingClient,
        session: TrainingSession,
        datums: list[Datum],
        saved: SavedWeights,
        sampler: SamplingClient | None,
    ) -> None:
        if sampler is None:
            return
        prompt = datums[0].model_input
        opened = sampler.start_session(model_path=saved.path).result(WAIT)
        drawn = sampler.sample(opened, prompt, num_samples=4, params=PARAMS).result(WAIT).sequences
        sequences = [_sequence(prompt, sequence.tokens) for sequence in drawn]
        together = client.forward(session, [*datums, *sequences]).result(WAIT)
        for index, (sequence, example) in enumerate(zip(drawn, sequences, strict=True)):
            alone = client.forward(session, [example]).result(WAIT)
            for scored in (array(together, len(datums) + index), array(alone, 0)):
                found = scored[prompt.length - 1 :]
                np.testing.assert_allclose(found, np.asarray(sequence.logprobs), atol=self.tolerance)

    def test_on_policy_the_ratio_is_one(
        self,
        client: TrainingClient,
        session: TrainingSession,
        datums: list[Datum],
        saved: SavedWeights,
        sampler: SamplingClient | None,
        losses: list[str],
    ) -> None:
        if sampler is None:
            return
        prompt = datums[0].model_input
        opened = sampler.start_session(model_path=saved.path).result(WAIT)
        drawn = sampler.sample(opened, prompt, params=PARAMS).result(WAIT).sequences[0]
        example, silent = _sequence(prompt, drawn.tokens), [0.0] * (prompt.length - 1)
        tensors = {
            "logprobs": TensorData(np.asarray([*silent, *drawn.logprobs])),
            "advantages": TensorData(np.asarray([*silent, *[2.0] * len(drawn.tokens)])),
        }
        for loss_fn in sorted({"importance_sampling", "ppo"} & {*losses}):
            whole = Datum(example.model_input, {**example.loss_fn_inputs, **tensors})
            output = client.forward(session, [whole], loss_fn=loss_fn).result(WAIT)
            expected = -tensors["advantages"].data
            np.testing.assert_allclose(array(output, 0, "elementwise_loss"), expected, atol=4 * self.tolerance)

    def test_a_response_says_which_weights_drew_it(
        self, datums: list[Datum], saved: SavedWeights, sampler: SamplingClient | None
    ) -> None:
        if sampler is None:
            return
        opened = sampler.start_session(model_path=saved.path).result(WAIT)
        assert (opened.digest, opened.policy_version) == (saved.digest, saved.policy_version)
        drawn = sampler.sample(opened, datums[0].model_input, params=PARAMS).result(WAIT)
        assert drawn.provenance == opened.provenance(PARAMS)
        assert drawn.provenance.temperature == PARAMS.temperature
        drawn.provenance.require(saved)

    def test_stale_and_base_model_tokens_are_refused_where_a_policys_are_required(
        self,
        client: TrainingClient,
        session: TrainingSession,
        datums: list[Datum],
        saved: SavedWeights,
        sampler: SamplingClient | None,
    ) -> None:
        if sampler is None:
            return
        self.train(client, session, datums)
        later = client.save_weights_for_sampler(session, "second").result(WAIT)
        opened = [
            sampler.start_session(model_path=saved.path).result(WAIT),
            sampler.start_session(base_model=session.model).result(WAIT),
        ]
        for each in opened:
            drawn = sampler.sample(each, datums[0].model_input, params=PARAMS).result(WAIT)
            with pytest.raises(StaleWeightsError):
                drawn.provenance.require(later)


def _sequence(prompt: ModelInput, completion: tuple[int, ...]) -> Datum:
    """The datum that scores a prompt and its completion."""
    ids = [*prompt.to_ints(), *completion]
    return Datum(ModelInput.from_ints(ids[:-1]), {"target_tokens": TensorData(ids[1:])})
