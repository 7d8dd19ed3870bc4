"""Do gradients add up, apply and clear as the port says, in the order submitted?"""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum
from crucible.ports.training_client import (
    AdamParams,
    ForwardBackwardOutput,
    SessionConfig,
    TrainingClient,
    TrainingSession,
)
from crucible.testing.contracts.sequences import STEP, WAIT, array, datum, fingerprint
from crucible.testing.contracts.suite import NotExercised
from crucible.testing.contracts.training_scores import TrainingScores

ONLY_THE_LAST_GRADIENT = AdamParams(learning_rate=1e-2, beta1=0.0, beta2=0.0, eps=1e-3)
"""AdamW without memory: the update is a function of the gradient at hand alone."""


def minus_logprobs(
    datums: Sequence[Datum], logprobs: Sequence[NDArray[np.float32]]
) -> tuple[float, list[NDArray[np.float32]]]:
    """cross_entropy with the datums' weights, written as a custom objective."""
    loss, derivatives = 0.0, list[NDArray[np.float32]]()
    for example, values in zip(datums, logprobs, strict=True):
        weights = (
            example.loss_fn_inputs["weights"].data if "weights" in example.loss_fn_inputs else np.ones_like(values)
        )
        loss -= float((values * weights).sum())
        derivatives.append((-weights).astype(np.float32))
    return loss, derivatives


class TrainingUpdates(TrainingScores):
    """`forward_backward`, `forward_backward_custom` and `optim_step`: accumulation, order, independence."""

    def assert_same(self, left: ForwardBackwardOutput, right: ForwardBackwardOutput) -> None:
        """Two outputs over the same datums agree to the tolerance."""
        for index in range(len(left.loss_fn_outputs)):
            np.testing.assert_allclose(array(left, index), array(right, index), atol=self.tolerance)

    def test_training_on_one_datum_lowers_its_loss(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().computes:
            not_exercised("learning: the backend computes nothing")
            return
        losses: list[float] = []
        for _ in range(4):
            losses.append(client.forward_backward(session, datums[1:]).result(WAIT).metrics["loss:sum"])
            client.optim_step(session, STEP).result(WAIT)
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0]

    def test_gradients_add_up_over_calls(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        other = client.start_session(config).result(WAIT)
        client.forward_backward(session, datums)
        for example in datums:
            client.forward_backward(other, [example])
        steps = [client.optim_step(each, STEP).result(WAIT).metrics for each in (session, other)]
        if "grad_norm" in steps[0]:
            assert steps[0]["grad_norm"] == pytest.approx(steps[1]["grad_norm"], rel=self.tolerance)
        self.assert_same(*(client.forward(each, datums).result(WAIT) for each in (session, other)))

    def test_optim_step_clears_what_it_used(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        still = AdamParams(learning_rate=0.0, beta1=0.0, beta2=0.0)
        other = client.start_session(config).result(WAIT)
        client.forward_backward(session, datums[:1])
        client.optim_step(session, still)
        assert client.optim_step(session, still).result(WAIT).metrics.get("grad_norm", 0.0) == 0.0
        for each in (session, other):
            client.forward_backward(each, datums[1:])
            client.optim_step(each, ONLY_THE_LAST_GRADIENT)
        self.assert_same(*(client.forward(each, datums).result(WAIT) for each in (session, other)))

    def test_with_nothing_accumulated_the_gradient_is_zero(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        before = client.forward(session, datums).result(WAIT)
        metrics = client.optim_step(session, STEP).result(WAIT).metrics
        assert metrics.get("grad_norm", 0.0) == 0.0
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_forward_accumulates_nothing(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        before = client.forward(session, datums).result(WAIT)
        client.optim_step(session, STEP).result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_a_failed_call_leaves_the_session_as_it_was(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum]
    ) -> None:
        before = client.forward(session, datums).result(WAIT)
        broken = datum([1, 2, 3], weights=[1.0, 1.0, 1.0])
        failed = client.forward_backward(session, [datums[1], broken])
        with pytest.raises(ValueError):
            failed.result(WAIT)
        client.optim_step(session, STEP).result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_calls_take_effect_in_the_order_submitted(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        other = client.start_session(config).result(WAIT)
        submitted = [(client.forward_backward(session, datums), client.optim_step(session, STEP)) for _ in range(3)]
        last = client.forward(session, datums).result(WAIT)
        at_once = [scores.result(WAIT) for scores, _ in reversed(submitted)][::-1]
        one_by_one: list[ForwardBackwardOutput] = []
        for _ in range(3):
            one_by_one.append(client.forward_backward(other, datums).result(WAIT))
            client.optim_step(other, STEP).result(WAIT)
        one_by_one.append(client.forward(other, datums).result(WAIT))
        for left, right in zip([*at_once, last], one_by_one, strict=True):
            self.assert_same(left, right)

    def test_the_same_calls_give_the_same_bytes(
        self, client: TrainingClient, config: SessionConfig, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().exact:
            not_exercised("equal bytes: the backend does not promise them")
            return
        runs: list[list[object]] = []
        for _ in range(2):
            session = client.start_session(config).result(WAIT)
            outputs: list[ForwardBackwardOutput] = []
            for _ in range(3):
                outputs.append(client.forward_backward(session, datums).result(WAIT))
                client.optim_step(session, STEP).result(WAIT)
            runs.append(fingerprint(outputs))
        assert runs[0] == runs[1]

    def test_sessions_do_not_move_each_other(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, datums: list[Datum]
    ) -> None:
        other = client.start_session(config).result(WAIT)
        assert other.session_id != session.session_id
        before = client.forward(session, datums).result(WAIT)
        client.forward_backward(other, datums)
        client.optim_step(other, STEP).result(WAIT)
        client.optim_step(session, STEP).result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))

    def test_a_custom_objective_trains_as_the_built_in_loss_does(
        self,
        client: TrainingClient,
        config: SessionConfig,
        session: TrainingSession,
        datums: list[Datum],
        not_exercised: NotExercised,
    ) -> None:
        if not client.capabilities().custom_loss:
            with pytest.raises(UnsupportedError):
                client.forward_backward_custom(session, datums, minus_logprobs).result(WAIT)
            not_exercised("custom objectives: the backend has none")
            return
        other = client.start_session(config).result(WAIT)
        custom = client.forward_backward_custom(session, datums, minus_logprobs).result(WAIT)
        built_in = client.forward_backward(other, datums).result(WAIT)
        assert custom.metrics["loss:sum"] == pytest.approx(built_in.metrics["loss:sum"], rel=self.tolerance)
        self.assert_same(custom, built_in)
        for each in (session, other):
            client.optim_step(each, STEP)
        self.assert_same(*(client.forward(each, datums).result(WAIT) for each in (session, other)))

    def test_a_custom_objective_that_fails_fails_the_call_alone(
        self, client: TrainingClient, session: TrainingSession, datums: list[Datum], not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().custom_loss:
            not_exercised("custom objectives: the backend has none")
            return

        def raises(*_: object) -> tuple[float, list[NDArray[np.float32]]]:
            raise KeyError("the objective's own error")

        def misshapen(_: object, logprobs: Sequence[NDArray[np.float32]]) -> tuple[float, list[NDArray[np.float32]]]:
            return 0.0, [np.ones(len(values) + 1, dtype=np.float32) for values in logprobs]

        before = client.forward(session, datums).result(WAIT)
        failed = client.forward_backward_custom(session, datums, raises)
        with pytest.raises(KeyError, match="the objective's own error"):
            failed.result(WAIT)
        failed = client.forward_backward_custom(session, datums, misshapen)
        with pytest.raises(ValueError):
            failed.result(WAIT)
        client.optim_step(session, STEP).result(WAIT)
        self.assert_same(before, client.forward(session, datums).result(WAIT))
