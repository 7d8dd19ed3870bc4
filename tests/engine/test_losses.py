"""Is every loss, in value and gradient, its formula written out over whole logits, differentiated by autograd?"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rl_data import Bench, relative
from tiny_models import with_peft

from crucible.engine.lora import LoraAdapter, adapter_tensors
from crucible.engine.losses import LOSSES, loss_config
from crucible.errors import ConfigError, UnsupportedError
from crucible.ports.datum import Datum
from crucible.ports.training_client import LogprobsWanted

Inputs = Mapping[str, torch.Tensor]


def cross_entropy(lp: torch.Tensor, x: Inputs, _: Mapping[str, float]) -> torch.Tensor:
    return -lp * x["weights"]


def importance_sampling(lp: torch.Tensor, x: Inputs, _: Mapping[str, float]) -> torch.Tensor:
    return -torch.exp(lp - x["logprobs"]) * x["advantages"]


def ppo(lp: torch.Tensor, x: Inputs, config: Mapping[str, float]) -> torch.Tensor:
    return _clipped(torch.exp(lp - x["logprobs"]), x, config)


def _clipped(ratio: torch.Tensor, x: Inputs, config: Mapping[str, float]) -> torch.Tensor:
    clipped = torch.clamp(ratio, config["clip_low_threshold"], config["clip_high_threshold"])
    return -torch.min(ratio * x["advantages"], clipped * x["advantages"])


def cispo(lp: torch.Tensor, x: Inputs, config: Mapping[str, float]) -> torch.Tensor:
    ratio = torch.exp(lp - x["logprobs"])
    clipped = torch.clamp(ratio, config["clip_low_threshold"], config["clip_high_threshold"])
    return -clipped.detach() * lp * x["advantages"]


def dro(lp: torch.Tensor, x: Inputs, config: Mapping[str, float]) -> torch.Tensor:
    sampled = (x["logprobs"] != 0) | (x["advantages"] != 0)
    return -(lp * x["advantages"] - 0.5 * config["beta"] * (lp - x["logprobs"]) ** 2) * sampled


def gspo(lp: torch.Tensor, x: Inputs, config: Mapping[str, float]) -> torch.Tensor:
    mean = (lp.detach() - x["logprobs"])[x["sequence_ratio_mask"] != 0].mean()
    return _clipped(torch.exp(mean + lp - lp.detach()), x, config)


FORMULAS: Mapping[str, Callable[[torch.Tensor, Inputs, Mapping[str, float]], torch.Tensor]] = {
    "cross_entropy": cross_entropy,
    "importance_sampling": importance_sampling,
    "ppo": ppo,
    "cispo": cispo,
    "dro": dro,
    "gspo": gspo,
}


def tensors(example: Datum) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(data.data.copy()) for name, data in example.loss_fn_inputs.items()}


def whole_logprobs(model: torch.nn.Module, example: Datum) -> torch.Tensor:
    """(N,) or (N, K), float64, by one plain forward of this sequence alone and all its logits."""
    logits = model(input_ids=torch.tensor([example.model_input.to_ints()]), use_cache=False).logits[0]
    targets = tensors(example)["target_tokens"]
    return logits.double().log_softmax(-1).gather(1, targets.reshape(len(logits), -1)).reshape(targets.shape)


@pytest.fixture(scope="module")
def bench(model_folder: Callable[[str], Path]) -> Bench:
    return Bench.of(model_folder("llama"))


@pytest.fixture(scope="module")
def reference(model_folder: Callable[[str], Path], bench: Bench) -> torch.nn.Module:
    """The same model and adapter in float64, by transformers and peft."""
    adapter = bench.adapter
    return with_peft(model_folder("llama"), adapter_tensors(adapter), rank=adapter.rank, alpha=adapter.alpha).double()


def gradients(reference: torch.nn.Module, adapter: LoraAdapter, loss: torch.Tensor) -> list[torch.Tensor]:
    own = dict(reference.named_parameters())
    return list(
        torch.autograd.grad(
            loss, [own[name.replace(".weight", ".default.weight")] for name in adapter_tensors(adapter)]
        )
    )


@pytest.mark.parametrize("wanted", ["all", "weighted"])
@pytest.mark.parametrize(
    ("loss_fn", "targets", "config"),
    [
        ("cross_entropy", None, {}),
        ("cross_entropy", 3, {}),
        ("importance_sampling", None, {}),
        ("importance_sampling", 3, {}),
        ("ppo", None, {}),
        ("ppo", None, {"clip_low_threshold": 0.5, "clip_high_threshold": 3.0}),
        ("cispo", None, {}),
        ("cispo", None, {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}),
        ("dro", None, {}),
        ("dro", None, {"beta": 2.0}),
        ("gspo", None, {}),
        ("gspo", None, {"clip_low_threshold": 0.99, "clip_high_threshold": 1.01}),
    ],
)
def test_values_and_gradients_are_those_of_the_formula_by_autograd(
    bench: Bench,
    reference: torch.nn.Module,
    loss_fn: str,
    targets: int | None,
    config: dict[str, float],
    wanted: LogprobsWanted,
) -> None:
    data = bench.examples((11, 5, 29, 1, 17), loss_fn, targets=targets)
    ours = bench.score(data, loss_fn, wanted=wanted, **config)
    logprobs = [whole_logprobs(reference, example) for example in data]
    losses = [
        FORMULAS[loss_fn](own, tensors(example), loss_config(loss_fn, config))
        for own, example in zip(logprobs, data, strict=True)
    ]
    for index, (own, loss) in enumerate(zip(logprobs, losses, strict=True)):
        shown = ~np.isnan(ours.logprobs[index])
        assert shown.all() or wanted == "weighted"
        np.testing.assert_allclose(ours.logprobs[index][shown], own.detach().numpy()[shown], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.losses[index], loss.detach().numpy(), rtol=1e-5, atol=1e-5)
    total = torch.stack([loss.sum() for loss in losses]).sum()
    assert ours.total_loss == pytest.approx(float(total.detach()), rel=1e-5)
    assert ours.gradients is not None
    assert relative(ours.gradients, gradients(reference, bench.adapter, total)) < 1e-5


@pytest.mark.parametrize("loss_fn", ["ppo", "cispo", "gspo"])
def test_the_data_of_these_tests_is_clipped_on_both_sides(bench: Bench, loss_fn: str) -> None:
    metrics = bench.score(bench.examples((11, 5, 29, 1, 17), loss_fn), loss_fn).metrics
    low, high = loss_config(loss_fn, {}).values()
    assert 0 < metrics["outside_clip:sum"] < metrics["targets:sum"]
    assert (metrics["ratio:min"] < low or low == 0) and metrics["ratio:max"] > high


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_the_heads_adapter_gets_the_gradient_of_autograd_too(model_folder: Callable[[str], Path], loss_fn: str) -> None:
    bench = Bench.of(model_folder("gemma2_capped_logits"), train_unembed=True)
    data = bench.examples((11, 5, 29), loss_fn, targets=2 if LOSSES[loss_fn].topk else None)
    model, config = bench.loaded.model, loss_config(loss_fn, {})
    with bench.loaded.active.use(bench.adapter):  # the model's own forward: the head's adapter is a module there
        losses = [FORMULAS[loss_fn](whole_logprobs(model, each), tensors(each), config).sum() for each in data]
        theirs = torch.autograd.grad(torch.stack(losses).sum(), bench.adapter.parameters)
    ours = bench.score(data, loss_fn).gradients
    assert ours is not None and relative(ours, theirs) < 1e-5


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), loss_fn=st.sampled_from(sorted({*LOSSES} - {"gspo"})), spread=st.floats(0.01, 3.0))
def test_the_derivative_is_that_of_the_value(seed: int, loss_fn: str, spread: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    lp, q, a, w = (torch.randn(40, generator=draw, dtype=torch.float64) for _ in range(4))
    inputs = {"logprobs": -q.abs(), "advantages": a, "weights": w}
    lp = (inputs["logprobs"] + spread * lp).requires_grad_()
    config = loss_config(loss_fn, {})
    value, derivative = LOSSES[loss_fn].elementwise(lp.detach(), inputs, config)
    expected = FORMULAS[loss_fn](lp, inputs, config)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(derivative, torch.autograd.grad(expected.sum(), lp)[0])


@pytest.mark.parametrize(
    ("loss_fn", "config", "complaint"),
    [
        ("ppo", {"clip_low": 0.9}, "ppo has no such setting.*clip_low"),
        ("cross_entropy", {"beta": 0.1}, "cross_entropy has no such setting"),
        ("reinforce", {}, "no such loss"),
        ("ppo", {"clip_low_threshold": float("nan")}, "ppo's clip_low_threshold.*nan"),
        ("cispo", {"clip_high_threshold": float("inf")}, "cispo's clip_high_threshold.*inf"),
        ("gspo", {"clip_low_threshold": -0.1}, "gspo's clip_low_threshold"),
        ("gspo", {"clip_low_threshold": 2.0}, "clip_low_threshold is above clip_high_threshold"),
        ("dro", {"beta": -1.0}, "dro's beta"),
        ("dro", {"beta": "0.1"}, "dro's beta"),
    ],
)
def test_a_wrong_config_is_refused_by_name(loss_fn: str, config: dict[str, Any], complaint: str) -> None:
    with pytest.raises((UnsupportedError, ConfigError), match=complaint):
        loss_config(loss_fn, config)


def test_defaults_are_those_of_tinkers_pages_and_stay_beside_what_is_given() -> None:
    low, high = "clip_low_threshold", "clip_high_threshold"
    assert loss_config("cispo", None) == {low: 0.0, high: 4.0}
    assert loss_config("ppo", {high: 1.28}) == {low: 0.8, high: 1.28}
    assert loss_config("gspo", {}) == {low: 0.8, high: 1.2}
    assert loss_config("dro", {}) == {"beta": 0.05}
