"""Does a session step as AdamW is written, clip, accumulate, and take over saved state whole or not at all?"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.engine.lora import adapter_tensors
from crucible.engine.model import LoadedModel, adapter_for, load_model
from crucible.engine.session import LoraSession
from crucible.errors import CheckpointError
from crucible.ports.training_client import AdamParams, SessionConfig


@pytest.fixture(scope="module")
def loaded(model_folder) -> LoadedModel:
    return load_model(model_folder("llama"), dtype="float32", device=torch.device("cpu"))


def session_on(loaded: LoadedModel, **options: int) -> LoraSession:
    config = SessionConfig(model="tiny", **{"lora_rank": 2, **options})
    return LoraSession(config, loaded, adapter_for(loaded, config))


def drawn(session: LoraSession, seed: int) -> list[torch.Tensor]:
    """Gradients of the session's parameters."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(parameter.shape, generator=generator) for parameter in session.adapter.parameters]


def snapshot(session: LoraSession) -> dict[str, torch.Tensor]:
    tensors = {**adapter_tensors(session.adapter), **session.optimizer_tensors()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def adamw(weight: torch.Tensor, gradients: list[torch.Tensor], steps: list[AdamParams]) -> torch.Tensor:
    """Algorithm 2 of arXiv:1711.05101 in float64, with decoupled decay scaled by the learning rate."""
    weight, first, second = weight.double(), torch.zeros_like(weight).double(), torch.zeros_like(weight).double()
    for t, (gradient, p) in enumerate(zip(gradients, steps, strict=True), start=1):
        first = p.beta1 * first + (1 - p.beta1) * gradient
        second = p.beta2 * second + (1 - p.beta2) * gradient.double() ** 2
        weight = weight * (1 - p.learning_rate * p.weight_decay)
        step = (first / (1 - p.beta1**t)) / ((second / (1 - p.beta2**t)).sqrt() + p.eps)
        weight = weight - p.learning_rate * step
    return weight


@settings(deadline=None, max_examples=20)
@given(
    rates=st.lists(st.sampled_from([1e-4, 1e-2, 0.0]), min_size=1, max_size=4),
    decay=st.sampled_from([0.0, 0.1]),
    eps=st.sampled_from([1e-12, 1e-3]),
)
def test_steps_are_adamws_with_every_field_per_call(
    loaded: LoadedModel, rates: list[float], decay: float, eps: float
) -> None:
    session = session_on(loaded)
    before = [parameter.detach().clone() for parameter in session.adapter.parameters]
    params = [AdamParams(learning_rate=rate, weight_decay=decay, eps=eps) for rate in rates]
    gradients = [drawn(session, seed) for seed in range(len(rates))]
    for step, gradient in zip(params, gradients, strict=True):
        session.accumulate([tensor.clone() for tensor in gradient])
        session.step(step)
    for place, parameter in enumerate(session.adapter.parameters):
        expected = adamw(before[place], [gradient[place] for gradient in gradients], params)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-5, atol=1e-7)


def test_the_norm_is_reported_before_clipping_and_the_clipped_gradient_used(loaded: LoadedModel) -> None:
    clipped, scaled = session_on(loaded), session_on(loaded)
    gradient = drawn(clipped, 0)
    norm = torch.cat([tensor.flatten() for tensor in gradient]).norm()
    clipped.accumulate([tensor.clone() for tensor in gradient])
    scaled.accumulate([tensor * (0.5 / (norm + 1e-6)) for tensor in gradient])
    assert clipped.step(AdamParams(grad_clip_norm=0.5, eps=1e-3)) == pytest.approx(float(norm))
    assert scaled.step(AdamParams(eps=1e-3)) == pytest.approx(0.5, rel=1e-5)
    for one, other in zip(clipped.adapter.parameters, scaled.adapter.parameters, strict=True):
        torch.testing.assert_close(one, other)


def test_a_norm_below_the_limit_leaves_the_gradient_as_it_is(loaded: LoadedModel) -> None:
    limited, free = session_on(loaded), session_on(loaded)
    for session, limit in ((limited, 1e6), (free, 0.0)):
        session.accumulate(drawn(session, 0))
        session.step(AdamParams(grad_clip_norm=limit))
    assert same(snapshot(limited), snapshot(free))


def test_a_step_uses_and_clears_what_was_accumulated(loaded: LoadedModel) -> None:
    session = session_on(loaded)
    gradient = drawn(session, 0)
    norm = torch.cat([tensor.flatten() for tensor in gradient]).norm()
    for _ in range(3):
        session.accumulate([tensor.clone() for tensor in gradient])
    assert session.step(AdamParams()) == pytest.approx(3 * float(norm))
    assert session.step(AdamParams()) == 0.0


def test_a_gradient_that_is_not_finite_is_refused_and_adds_nothing(loaded: LoadedModel) -> None:
    session = session_on(loaded)
    bad = drawn(session, 0)
    bad[3][0, 0] = torch.inf
    with pytest.raises(FloatingPointError):
        session.accumulate(bad)
    assert session.step(AdamParams()) == 0.0


def test_restored_state_continues_to_the_bit(loaded: LoadedModel) -> None:
    session, fresh = session_on(loaded), session_on(loaded, seed=5)
    session.accumulate(drawn(session, 0))
    session.step(AdamParams())
    fresh.restore(adapter_tensors(session.adapter), session.optimizer_tensors(), policy_version=session.policy_version)
    for each in (session, fresh):
        each.accumulate(drawn(each, 1))
        each.step(AdamParams(learning_rate=1e-3))
    assert same(snapshot(session), snapshot(fresh))


def test_restoring_drops_gradients_and_without_moments_starts_them_afresh(loaded: LoadedModel) -> None:
    session, other = session_on(loaded), session_on(loaded, seed=5)
    session.accumulate(drawn(session, 0))
    session.step(AdamParams())
    session.accumulate(drawn(session, 1))
    session.restore(adapter_tensors(other.adapter), None, policy_version=0)
    assert session.step(AdamParams()) == 0.0
    other.step(AdamParams())
    assert same(snapshot(session), snapshot(other))


@pytest.mark.parametrize("missing", ["model.layers.0.mlp.up_proj.lora_A.weight", "exp_avg"])
def test_state_of_another_layout_is_refused_and_changes_nothing(loaded: LoadedModel, missing: str) -> None:
    session = session_on(loaded)
    session.accumulate(drawn(session, 0))
    session.step(AdamParams())
    before = snapshot(session)
    adapter = {name: tensor + 1 for name, tensor in adapter_tensors(session.adapter).items() if missing not in name}
    optimizer = {name: tensor for name, tensor in session.optimizer_tensors().items() if missing not in name}
    with pytest.raises(CheckpointError, match="absent"):
        session.restore(adapter, optimizer, policy_version=0)
    assert same(snapshot(session), before)


def test_an_adapter_of_another_rank_is_refused_with_both_shapes(loaded: LoadedModel) -> None:
    with pytest.raises(CheckpointError, match=r"\(4, 48\) in it, \(2, 48\) in the session"):
        session_on(loaded).restore(adapter_tensors(session_on(loaded, lora_rank=4).adapter), None, policy_version=0)
