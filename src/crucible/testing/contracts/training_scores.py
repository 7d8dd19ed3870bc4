"""Are a training backend's scores what the port says? Shapes, formula, reduction, errors."""

import re
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, ImageChunk, ModelInput, TensorData
from crucible.ports.training_client import SessionConfig, TrainingClient, TrainingSession
from crucible.testing.contracts.sequences import WAIT, array, datum, fingerprint, some_ids, with_tensor
from crucible.testing.contracts.suite import NotExercised, Suite, needed

METRIC_KEY = re.compile(r"[^:]+:(mean|sum|min|max|slack|hash2|unique)")


class TrainingScores(Suite):
    """`forward` and what `forward_backward` returns. Fixtures: see `TrainingClientContract`."""

    tolerance: float = 1e-4
    """How far two ways to one number may be apart (nats, and relative for sums). Loosen it for bf16."""

    @pytest.fixture
    def client(self) -> TrainingClient:
        raise needed("client")

    @pytest.fixture
    def model(self) -> str:
        raise needed("model")

    @pytest.fixture
    def config(self, client: TrainingClient, model: str) -> SessionConfig:
        """The session that the suite trains."""
        alpha = client.capabilities().lora_alpha
        return SessionConfig(model=model, lora_rank=4, lora_alpha=8.0 if alpha is None else alpha, seed=1)

    @pytest.fixture
    def session(self, client: TrainingClient, config: SessionConfig) -> TrainingSession:
        return client.start_session(config).result(WAIT)

    @pytest.fixture
    def datums(self, client: TrainingClient, session: TrainingSession) -> list[Datum]:
        """Two sequences of different lengths: one with weights of every kind, one with none given."""
        tokenizer = client.get_tokenizer(session)
        return [
            datum(some_ids(tokenizer, 9), weights=[0.0, 1.0, 0.5, -0.25, 0.0, 2.0, 1.0, 1.0]),
            datum(some_ids(tokenizer, 6, start=5)),
        ]

    def test_each_datum_gets_its_logprobs_and_elementwise_loss(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        output = client.forward(session, datums).result(WAIT)
        assert len(output.loss_fn_outputs) == len(datums)
        for index, example in enumerate(datums):
            for name in ("logprobs", "elementwise_loss"):
                values = array(output, index, name)
                assert values.shape == (example.model_input.length,)
                assert values.dtype == np.float32
                assert np.isfinite(values).all()
            assert (array(output, index) <= self.tolerance).all()

    def test_outputs_are_in_the_order_of_the_datums(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        together = client.forward(session, datums).result(WAIT)
        for index, example in enumerate(datums):
            alone = client.forward(session, [example]).result(WAIT)
            np.testing.assert_allclose(array(together, index), array(alone, 0), atol=self.tolerance)

    def test_metric_keys_are_name_and_reduction_and_the_loss_is_there(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        for submit in (client.forward, client.forward_backward):
            metrics = submit(session, datums).result(WAIT).metrics
            assert "loss:sum" in metrics
            assert [key for key in metrics if not METRIC_KEY.fullmatch(key)] == []

    def test_the_loss_is_the_sum_of_its_elements(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        output = client.forward(session, datums).result(WAIT)
        total = sum(float(array(output, index, "elementwise_loss").sum()) for index in range(len(datums)))
        assert output.metrics["loss:sum"] == pytest.approx(total, rel=self.tolerance, abs=self.tolerance)

    def test_cross_entropy_is_minus_logprob_times_weight(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().computes:
            not_exercised("cross_entropy's formula: the backend computes nothing")
            return
        output = client.forward(session, datums).result(WAIT)
        for index, example in enumerate(datums):
            weights = example.loss_fn_inputs.get("weights", TensorData(np.ones(example.model_input.length)))
            expected = -array(output, index) * weights.data
            np.testing.assert_allclose(array(output, index, "elementwise_loss"), expected, atol=self.tolerance)

    def test_no_weights_means_one_everywhere(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        bare = datums[1]
        ones = with_tensor(bare, "weights", [1.0] * bare.model_input.length)
        losses = [client.forward(session, [example]).result(WAIT).metrics["loss:sum"] for example in (bare, ones)]
        assert losses[0] == pytest.approx(losses[1], rel=self.tolerance)

    def test_the_loss_is_linear_in_the_weights(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        weights = datums[0].loss_fn_inputs["weights"].data
        flipped = with_tensor(datums[0], "weights", cast(Sequence[float], (-2 * weights).tolist()))
        plain, twice = (client.forward(session, [d]).result(WAIT).metrics["loss:sum"] for d in (datums[0], flipped))
        assert twice == pytest.approx(-2 * plain, rel=self.tolerance)

    def test_losses_add_up_over_datums(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        together = client.forward(session, datums).result(WAIT).metrics["loss:sum"]
        alone = sum(client.forward(session, [example]).result(WAIT).metrics["loss:sum"] for example in datums)
        assert together == pytest.approx(alone, rel=self.tolerance)

    def test_weighted_logprobs_are_right_wherever_a_weight_is(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        weighted = datums[0].loss_fn_inputs["weights"].data != 0
        for submit in (client.forward, client.forward_backward):
            every = submit(session, datums, logprobs="all").result(WAIT)
            some = submit(session, datums, logprobs="weighted").result(WAIT)
            np.testing.assert_allclose(array(some, 0)[weighted], array(every, 0)[weighted], atol=self.tolerance)
            assert some.metrics["loss:sum"] == pytest.approx(every.metrics["loss:sum"], rel=self.tolerance)

    def test_forward_and_forward_backward_give_the_same_scores(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        scored = client.forward(session, datums).result(WAIT)
        trained = client.forward_backward(session, datums).result(WAIT)
        for index in range(len(datums)):
            np.testing.assert_allclose(array(scored, index), array(trained, index), atol=self.tolerance)

    def test_forward_changes_nothing(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        first = client.forward(session, datums).result(WAIT)
        second = client.forward(session, datums).result(WAIT)
        assert fingerprint([first]) == fingerprint([second]) or not client.capabilities().exact

    def test_an_unknown_loss_or_config_key_is_refused_by_name(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        for submit in (client.forward, client.forward_backward):
            unknown_loss = submit(session, datums, loss_fn="no_such_loss")
            with pytest.raises(UnsupportedError, match="no_such_loss"):
                unknown_loss.result(WAIT)
            unknown_key = submit(session, datums, loss_fn_config={"no_such_key": 1.0})
            with pytest.raises(UnsupportedError, match="no_such_key"):
                unknown_key.result(WAIT)

    def test_a_malformed_datum_is_refused(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        good = datums[1]
        count = good.model_input.length
        malformed = {
            "no target_tokens": Datum(good.model_input, {}),
            "too few targets": with_tensor(good, "target_tokens", [1] * (count - 1)),
            "too many weights": with_tensor(good, "weights", [1.0] * (count + 1)),
            "a negative target": with_tensor(good, "target_tokens", [-1] * count),
            "a target beyond the vocabulary": with_tensor(good, "target_tokens", [10**9] * count),
            "a negative input token": Datum(ModelInput.from_ints([-1] * count), good.loss_fn_inputs),
        }
        for submit in (client.forward, client.forward_backward):
            for what, example in malformed.items():
                future = submit(session, [datums[0], example])
                with pytest.raises(ValueError) as raised:
                    future.result(WAIT)
                assert str(raised.value), what

    def test_an_image_is_refused_where_images_are_lacking(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        if client.capabilities().images:
            not_exercised("images: the suite has none to send")
            return
        image = ImageChunk(data=b"", format="png", expected_tokens=datums[1].model_input.length)
        future = client.forward(session, [Datum(ModelInput((image,)), datums[1].loss_fn_inputs)])
        with pytest.raises(ValueError):  # UnsupportedError is one too
            future.result(WAIT)
