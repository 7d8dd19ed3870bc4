"""Is every loss of a training backend its formula, in value and in gradient?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import ForwardBackwardOutput, SessionConfig, TrainingClient, TrainingSession
from crucible.testing.contracts.sequences import STEP, WAIT, array, some_ids, with_tensor
from crucible.testing.contracts.suite import NotExercised
from crucible.testing.contracts.training_updates import TrainingUpdates, minus_logprobs
from crucible.testing.loss_formulas import DEFAULTS, FORMULAS, HIGH, LOW, TENSORS, TOPK, whole_config

SETTINGS: Mapping[str, Mapping[str, float]] = {
    "ppo": {LOW: 0.4, HIGH: 2.5},
    "cispo": {LOW: 0.9, HIGH: 1.1},
    "gspo": {LOW: 0.95, HIGH: 1.05},
    "dro": {"beta": 1.5},
}
"""A config of each loss that has one, far from its defaults."""


def written_out(
    loss_fn: str, example: Datum, logprobs: NDArray[np.float32], config: Mapping[str, float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(elementwise loss, derivative by the logprobs) of a datum, by the formula."""
    given = {name: tensor.data.astype(np.float64) for name, tensor in example.loss_fn_inputs.items()}
    return FORMULAS[loss_fn](logprobs.astype(np.float64), given, whole_config(loss_fn, config))


class TrainingLosses(TrainingUpdates):
    """Every loss of `capabilities().losses` that has a formula in `loss_formulas`."""

    @pytest.fixture
    def losses(self, client: TrainingClient, not_exercised: NotExercised) -> list[str]:
        """The backend's losses whose formula is known."""
        names = client.capabilities().losses
        for name in sorted(names - FORMULAS.keys()):
            not_exercised(f"the loss {name}: its formula is not known")
        return sorted(names & FORMULAS.keys())

    def sampled(
        self, client: TrainingClient, session: TrainingSession, loss_fn: str, *, targets: int | None = None
    ) -> list[Datum]:
        """Three sequences, each a prompt and a completion, with every tensor that the loss reads.

        On the prompt logprobs and advantages are 0. On the completion ratios go from exp(-1) to exp(1), advantages
        have both signs, and some are 0.
        """
        tokenizer = client.get_tokenizer(session)
        bare: list[Datum] = []
        for start, length in ((3, 12), (5, 7), (11, 4)):
            ids = some_ids(tokenizer, length + 1, start=start)
            several = [some_ids(tokenizer, targets or 1, start=token + 1) for token in ids[1:]]
            at = ids[1:] if targets is None else several
            bare.append(Datum(ModelInput.from_ints(ids[:-1]), {"target_tokens": TensorData(at)}))
        scored = client.forward(session, bare).result(WAIT)
        found: list[Datum] = []
        for index, example in enumerate(bare):
            logprobs = array(scored, index)
            places = np.arange(logprobs.size).reshape(logprobs.shape)
            completion = np.zeros(logprobs.shape)
            completion[len(logprobs) // 3 :] = 1
            advantages = completion * np.array([1.0, -0.5, 2.0, 0.0, -1.5])[places % 5]
            tensors: dict[str, ArrayLike] = {
                "weights": advantages,
                "advantages": advantages,
                "logprobs": completion * (logprobs + np.array([1.0, -0.1, -1.0, 0.15, -0.5, 0.4, 0.0])[places % 7]),
                "sequence_ratio_mask": completion,
            }
            inputs = {name: TensorData(np.asarray(tensors[name], np.float32)) for name in TENSORS[loss_fn]}
            found.append(Datum(example.model_input, {**example.loss_fn_inputs, **inputs}))
        return found

    def assert_written_out(
        self, output: ForwardBackwardOutput, loss_fn: str, examples: Sequence[Datum], config: Mapping[str, float]
    ) -> None:
        """The output's losses are those of the formula at its own logprobs."""
        total = 0.0
        for index, example in enumerate(examples):
            expected, _ = written_out(loss_fn, example, array(output, index), config)
            np.testing.assert_allclose(
                array(output, index, "elementwise_loss"),
                expected,
                rtol=self.tolerance,
                atol=self.tolerance,
                err_msg=loss_fn,
            )
            total += float(expected.sum())
        assert output.metrics["loss:sum"] == pytest.approx(total, rel=self.tolerance, abs=self.tolerance), loss_fn

    def test_every_loss_is_its_formula(
        self, client: TrainingClient, session: TrainingSession, losses: list[str]
    ) -> None:
        for loss_fn in losses:
            examples = self.sampled(client, session, loss_fn)
            configs: list[Mapping[str, float]] = [{}, SETTINGS.get(loss_fn, {})]
            for submit in (client.forward, client.forward_backward):
                for config in configs:
                    output = submit(session, examples, loss_fn=loss_fn, loss_fn_config=config).result(WAIT)
                    self.assert_written_out(output, loss_fn, examples, config)

    def test_the_gradient_of_every_loss_is_that_of_cross_entropy_weighted_by_minus_its_derivative(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, losses: list[str]
    ) -> None:
        for loss_fn in losses:
            examples = self.sampled(client, session, loss_fn)
            ours, theirs = (client.start_session(config).result(WAIT) for _ in range(2))
            output = client.forward_backward(ours, examples, loss_fn=loss_fn).result(WAIT)
            self.train_by_derivatives(client, theirs, loss_fn, examples, output)
            client.optim_step(ours, STEP)
            self.assert_same(*(client.forward(each, examples, loss_fn=loss_fn).result(WAIT) for each in (ours, theirs)))

    def train_by_derivatives(
        self,
        client: TrainingClient,
        session: TrainingSession,
        loss_fn: str,
        examples: Sequence[Datum],
        output: ForwardBackwardOutput,
    ) -> None:
        """One update by the loss's derivative at the output's logprobs, as weights of a cross-entropy."""
        weighted: list[Datum] = []
        for index, example in enumerate(examples):
            _, derivative = written_out(loss_fn, example, array(output, index))
            weights = TensorData((-derivative).astype(np.float32))
            targets = example.loss_fn_inputs["target_tokens"]
            weighted.append(Datum(example.model_input, {"target_tokens": targets, "weights": weights}))
        client.forward_backward(session, weighted)
        client.optim_step(session, STEP).result(WAIT)

    def test_every_loss_adds_up_over_the_parts_of_a_request(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, losses: list[str]
    ) -> None:
        for loss_fn in losses:
            examples = self.sampled(client, session, loss_fn)
            whole, parts = (client.start_session(config).result(WAIT) for _ in range(2))
            together = client.forward_backward(whole, examples, loss_fn=loss_fn)
            alone = [client.forward_backward(parts, [example], loss_fn=loss_fn) for example in examples]
            total = sum(output.result(WAIT).metrics["loss:sum"] for output in alone)
            assert together.result(WAIT).metrics["loss:sum"] == pytest.approx(
                total, rel=self.tolerance, abs=self.tolerance
            )
            for each in (whole, parts):
                client.optim_step(each, STEP)
            self.assert_same(*(client.forward(each, examples, loss_fn=loss_fn).result(WAIT) for each in (whole, parts)))

    def test_several_targets_at_a_position_are_scored_each_and_their_losses_added(
        self,
        client: TrainingClient,
        config: SessionConfig,
        session: TrainingSession,
        losses: list[str],
        not_exercised: NotExercised,
    ) -> None:
        if not client.capabilities().topk_targets:
            not_exercised("several targets at a position: the backend takes one")
            return
        for loss_fn in sorted(TOPK & {*losses}):
            examples = self.sampled(client, session, loss_fn, targets=3)
            ours, theirs = (client.start_session(config).result(WAIT) for _ in range(2))
            output = client.forward_backward(ours, examples, loss_fn=loss_fn).result(WAIT)
            self.assert_written_out(output, loss_fn, examples, {})
            for index, example in enumerate(examples):
                targets = example.loss_fn_inputs["target_tokens"].data
                assert array(output, index).shape == targets.shape
                columns = [Datum(example.model_input, {"target_tokens": TensorData(each)}) for each in targets.T]
                apart = client.forward(session, columns).result(WAIT)
                for column in range(len(columns)):
                    np.testing.assert_allclose(
                        array(output, index)[:, column], array(apart, column), atol=self.tolerance
                    )
            self.train_by_derivatives(client, theirs, loss_fn, examples, output)
            client.optim_step(ours, STEP)
            self.assert_same(*(client.forward(each, examples, loss_fn=loss_fn).result(WAIT) for each in (ours, theirs)))

    def test_a_custom_objective_of_several_targets_trains_as_the_built_in_loss_does(
        self, client: TrainingClient, config: SessionConfig, session: TrainingSession, not_exercised: NotExercised
    ) -> None:
        if not (client.capabilities().topk_targets and client.capabilities().custom_loss):
            not_exercised("custom objectives of several targets: the backend lacks the one or the other")
            return
        examples = self.sampled(client, session, "cross_entropy", targets=3)
        ours, theirs = (client.start_session(config).result(WAIT) for _ in range(2))
        custom = client.forward_backward_custom(ours, examples, minus_logprobs).result(WAIT)
        built_in = client.forward_backward(theirs, examples).result(WAIT)
        assert custom.metrics["loss:sum"] == pytest.approx(built_in.metrics["loss:sum"], rel=self.tolerance)
        self.assert_same(custom, built_in)
        for each in (ours, theirs):
            client.optim_step(each, STEP)
        self.assert_same(*(client.forward(each, examples).result(WAIT) for each in (ours, theirs)))

    def test_a_prompt_has_no_loss_whatever_its_targets_are(
        self, client: TrainingClient, session: TrainingSession, losses: list[str]
    ) -> None:
        for loss_fn in losses:
            examples = self.sampled(client, session, loss_fn)
            output = client.forward(session, examples, loss_fn=loss_fn).result(WAIT)
            for index, example in enumerate(examples):
                prompt = len(example.loss_fn_inputs["target_tokens"].data) // 3
                assert not array(output, index, "elementwise_loss")[:prompt].any()

    def test_a_wrong_config_is_refused_by_name(
        self, client: TrainingClient, session: TrainingSession, losses: list[str]
    ) -> None:
        for loss_fn in losses:
            examples = self.sampled(client, session, loss_fn)
            unknown = client.forward_backward(session, examples, loss_fn=loss_fn, loss_fn_config={"no_such_key": 1.0})
            with pytest.raises(UnsupportedError, match="no_such_key"):
                unknown.result(WAIT)
            wrong: list[dict[str, float]] = [{key: float("nan")} for key in DEFAULTS[loss_fn]]
            wrong += [{LOW: 2.0, HIGH: 1.0}] if LOW in DEFAULTS[loss_fn] else []
            for settings in wrong:
                refused = client.forward_backward(session, examples, loss_fn=loss_fn, loss_fn_config=settings)
                with pytest.raises(ValueError, match="|".join(settings)):
                    refused.result(WAIT)

    def test_a_tensor_that_is_missing_not_finite_of_another_shape_or_not_read_is_refused_by_name(
        self, client: TrainingClient, session: TrainingSession, losses: list[str]
    ) -> None:
        for loss_fn in losses:
            good = self.sampled(client, session, loss_fn)[0]
            count = good.model_input.length
            wrong = [with_tensor(good, "no_such_tensor", [0.0] * count)]
            names = ["no_such_tensor"]
            for name in TENSORS[loss_fn]:
                inputs = {other: tensor for other, tensor in good.loss_fn_inputs.items() if other != name}
                wrong += [with_tensor(good, name, [float("nan")] * count), with_tensor(good, name, [1.0] * (count + 1))]
                wrong += [] if name == "weights" else [Datum(good.model_input, inputs)]
                names += [name] * (len(wrong) - len(names))
            for name, example in zip(names, wrong, strict=True):
                refused = client.forward_backward(session, [good, example], loss_fn=loss_fn)
                with pytest.raises(ValueError, match=name):
                    refused.result(WAIT)
