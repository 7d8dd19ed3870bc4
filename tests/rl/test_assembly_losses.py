"""Does the real engine train on what is assembled, for each loss, as the loss is written?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from made_groups import Policy

from crucible.engine.losses import LOSSES
from crucible.errors import ConfigError
from crucible.ports.datum import Datum, TensorData
from crucible.testing.loss_formulas import FORMULAS, whole_config
from crucible.train.rl.advantages import advantages
from crucible.train.rl.assembly import RLDatum, assemble
from crucible.train.rl.policy_losses import POLICY_LOSSES, loss_fn_config
from crucible.train.rl.rl_metrics import learning_metrics
from crucible.train.rl.types import TrajectoryGroup

EACH = pytest.mark.parametrize("loss", sorted(POLICY_LOSSES))


def assembled(groups: Sequence[TrajectoryGroup], loss: str) -> list[RLDatum]:
    return assemble(groups, advantages(groups, kind="group_mean"), loss=loss)


def test_the_facts_of_the_losses_are_the_engines() -> None:
    engines = {name: loss for name, loss in LOSSES.items() if "logprobs" in loss.inputs}
    assert {name: dict(loss.config) for name, loss in POLICY_LOSSES.items()} == {
        name: dict(loss.config) for name, loss in engines.items()
    }
    assert all(loss.inputs == ("target_tokens", *engines[name].inputs) for name, loss in POLICY_LOSSES.items())


@EACH
def test_the_engine_takes_it_and_gives_the_loss_as_it_is_written(
    policy: Policy, rollouts: list[TrajectoryGroup], loss: str
) -> None:
    datums = assembled(rollouts, loss)
    output = policy.outputs(datums, loss)
    expected = 0.0
    for one, own in zip(datums, output.loss_fn_outputs, strict=True):
        given = {name: tensor.data.astype(np.float64) for name, tensor in one.datum.loss_fn_inputs.items()}
        losses, _ = FORMULAS[loss](own["logprobs"].data.astype(np.float64), given, whole_config(loss, None))
        expected += losses.sum()
    assert output.metrics["loss:sum"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


@EACH
def test_the_engine_counts_the_sampled_tokens_and_no_other(
    policy: Policy, rollouts: list[TrajectoryGroup], loss: str
) -> None:
    datums = assembled(rollouts, loss)
    tokens = sum(
        int(one.mask.sum()) if loss == "dro" else int((one.mask & (one.advantages != 0)).sum()) for one in datums
    )
    assert policy.outputs(datums, loss).metrics["targets:sum"] == tokens > 0


def test_the_trainer_gives_every_token_of_every_turn_the_logprob_that_it_was_sampled_with(
    policy: Policy, rollouts: list[TrajectoryGroup]
) -> None:
    datums = assembled(rollouts, "importance_sampling")
    assert all(one.turns == (0, 1) for one in datums)
    for one, own in zip(datums, policy.outputs(datums, "importance_sampling").loss_fn_outputs, strict=True):
        np.testing.assert_allclose(own["logprobs"].data[one.mask], one.sampler_logprobs[one.mask], atol=1e-4)


@EACH
def test_a_step_makes_better_answers_likelier_and_worse_ones_less_likely(policy: Policy, loss: str) -> None:
    learner = policy.another()
    datums = assembled(learner.rollouts(learner.base()), loss)
    before = learner.outputs(datums, loss)
    learner.step(1e-4)
    after = learner.outputs(datums, loss)
    gained = sum(
        float((new["logprobs"].data - old["logprobs"].data) @ one.advantages)
        for one, old, new in zip(datums, before.loss_fn_outputs, after.loss_fn_outputs, strict=True)
    )
    assert gained > 0


@pytest.mark.parametrize("loss", ["ppo", "cispo", "gspo"])
def test_the_ratios_outside_the_clip_are_those_that_the_engine_counts(
    policy: Policy, rollouts: list[TrajectoryGroup], loss: str
) -> None:
    own = assemble(rollouts, [[0.75, -0.5, -0.25]] * len(rollouts), loss=loss)
    shifts = np.random.default_rng(0).normal(size=len(own))
    drifted = [_sampled_by_other_weights(one, shift) for one, shift in zip(own, shifts, strict=True)]
    config = loss_fn_config(loss, clip_low=0.9, clip_high=1.1)
    output = policy.outputs(drifted, loss, **config)
    found = learning_metrics(drifted, output.loss_fn_outputs, loss=loss, loss_config=config)
    assert found["tokens_scored"] == output.metrics["targets:sum"]
    outside = output.metrics["outside_clip:sum"] / found["tokens_scored"]
    assert found["ratio/clipped"] == pytest.approx(outside) if loss == "cispo" else 0 < found["ratio/clipped"] < outside


def _sampled_by_other_weights(one: RLDatum, shift: float) -> RLDatum:
    """With another sampler's logprobs, off by `shift` from the trainer's."""
    logprobs = TensorData(np.where(one.mask, one.sampler_logprobs + shift, 0.0))
    return replace(one, datum=Datum(one.datum.model_input, {**one.datum.loss_fn_inputs, "logprobs": logprobs}))


def test_a_losses_settings_are_its_own_and_complete() -> None:
    assert loss_fn_config("ppo", clip_high=1.28) == {"clip_low_threshold": 0.8, "clip_high_threshold": 1.28}
    assert loss_fn_config("dro") == {"beta": 0.05} and loss_fn_config("importance_sampling") == {}


def test_every_setting_that_a_loss_cannot_have_is_named() -> None:
    with pytest.raises(ConfigError, match=r"(?s)clip_low: loss=dro has no such setting.*beta: is not a finite"):
        loss_fn_config("dro", clip_low=0.8, beta=-1.0)
    with pytest.raises(ConfigError, match=r"clip_high: is no threshold .*Give the ratio, such as 1.2"):
        loss_fn_config("ppo", clip_high=0.2)
    with pytest.raises(ConfigError, match="Did you mean gspo"):
        loss_fn_config("gpso")
