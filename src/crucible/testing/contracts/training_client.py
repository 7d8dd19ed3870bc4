"""Does a training adapter keep the whole contract of its port?"""

from pathlib import Path

import pytest

from crucible.errors import ModelError, PortError, UnsupportedError
from crucible.ports.datum import Datum
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import SessionConfig, TrainingClient, TrainingSession, Workload
from crucible.testing.contracts.futures import outcomes
from crucible.testing.contracts.sequences import STEP, WAIT
from crucible.testing.contracts.suite import NotExercised
from crucible.testing.contracts.training_sampling import TrainingAndSampling


class TrainingClientContract(TrainingAndSampling):
    """The contract of `crucible.ports.TrainingClient`: scores, updates, losses, checkpoints, what a sampler of the same
    backend makes of them, and the sessions below.

    Fixtures that the subclass gives:
        client: the adapter, fresh for every test.
        model: a base model reference; a tiny one.
    and may give, to exercise more:
        sampling: a `SamplingClient` of the same backend.
        other_model: another base model reference.
        missing_model: a reference to no model (default: a folder that does not exist).
    `tolerance` is 1e-4 nats, for fp32.
    """

    @pytest.fixture
    def missing_model(self, tmp_path: Path) -> str:
        """A reference to no model."""
        return str(tmp_path / "no-such-model")

    def test_capabilities_need_no_session_and_name_cross_entropy(self, client: TrainingClient) -> None:
        assert "cross_entropy" in client.capabilities().losses

    def test_an_estimate_is_positive_and_of_a_model_that_exists(
        self, client: TrainingClient, config: SessionConfig, missing_model: str, not_exercised: NotExercised
    ) -> None:
        workload = Workload(trained_input_tokens=1000, loss_tokens=500, scored_input_tokens=100, longest=64)
        estimate = client.estimate(config, workload)
        if estimate is None:
            not_exercised("estimates: the backend gives none")
            return
        assert min(estimate.seconds, estimate.memory_bytes, estimate.checkpoint_bytes) > 0
        assert estimate.trainable_parameters > 0
        assert estimate.basis
        with pytest.raises(ModelError):
            client.estimate(SessionConfig(model=missing_model), workload)

    def test_a_session_says_what_it_was_made_of(
        self, client: TrainingClient, session: TrainingSession, config: SessionConfig
    ) -> None:
        assert session.model == config.model
        assert session.lora_rank == config.lora_rank
        assert isinstance(client.get_tokenizer(session), Tokenizer)

    def test_a_missing_model_is_refused(self, client: TrainingClient, missing_model: str) -> None:
        starting = client.start_session(SessionConfig(model=missing_model))
        with pytest.raises(ModelError):
            starting.result(WAIT)

    def test_what_capabilities_lack_is_refused(
        self, client: TrainingClient, model: str, not_exercised: NotExercised
    ) -> None:
        starting = client.start_session(SessionConfig(model=model, lora_rank=4, train_unembed=True))
        if client.capabilities().train_unembed:
            assert starting.result(WAIT).lora_rank == 4
            not_exercised("refusing a lacking capability: the backend lacks none")
            return
        with pytest.raises(UnsupportedError):
            starting.result(WAIT)

    def test_a_future_gives_one_value_to_all_who_wait(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        values = outcomes(client.forward_backward(session, datums), wait=WAIT)
        assert all(value is values[0] for value in values)

    def test_a_future_raises_one_error_to_all_who_wait(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        future = client.forward_backward(session, datums, loss_fn="no_such_loss")
        for _ in range(3):
            with pytest.raises(UnsupportedError):
                future.result(WAIT)
        assert future.done()

    def test_closing_a_session_waits_for_what_was_submitted_and_may_be_repeated(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        scores = client.forward_backward(session, datums)
        step = client.optim_step(session, STEP)
        client.close_session(session).result(WAIT)
        assert "loss:sum" in scores.result(WAIT).metrics
        step.result(WAIT)
        client.close_session(session).result(WAIT)

    def test_a_closed_session_takes_no_work(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        client.close_session(session).result(WAIT)
        with pytest.raises((PortError, ValueError)):
            client.forward(session, datums).result(WAIT)

    def test_a_client_may_be_closed_twice(self, client: TrainingClient, session: TrainingSession) -> None:
        client.close_session(session).result(WAIT)
        client.close()
        client.close()
