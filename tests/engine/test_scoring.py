"""Are the engine's logprobs, losses and gradients those of plain transformers, peft and autograd?"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rl_data import drained, drawn_adapter, relative
from tiny_models import EXACT, WINDOW, datum, datums, plain_logprobs, plain_loss, plain_model, with_peft

from crucible.engine.lora import LoraAdapter, adapter_tensors
from crucible.engine.losses import LOSSES
from crucible.engine.model import LoadedModel, adapter_for, load_model
from crucible.engine.rows import rows_of
from crucible.engine.scoring import Scores, scoring_steps
from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum
from crucible.ports.training_client import LogprobsWanted, SessionConfig

CPU = torch.device("cpu")
LENGTHS = (5, WINDOW, 31, 1, 12)


def score(
    loaded: LoadedModel,
    adapter: LoraAdapter,
    examples: Sequence[Datum],
    *,
    wanted: LogprobsWanted = "all",
    backward: bool = True,
    token_budget: int = 40,
) -> Scores:
    loss = LOSSES["cross_entropy"]
    rows = rows_of(examples, loss, vocab_size=loaded.vocab_size, context_length=loaded.context_length)
    steps = scoring_steps(
        loaded,
        adapter,
        rows,
        loss=loss,
        config={},
        wanted=wanted,
        backward=backward,
        token_budget=token_budget,
    )
    return drained(steps)


@pytest.fixture
def loaded(llama: Path) -> LoadedModel:
    return load_model(llama, dtype="float32", device=CPU)


@pytest.mark.parametrize("name", EXACT)
def test_packed_logprobs_are_those_of_each_sequence_alone(name: str, model_folder: Callable[[str], Path]) -> None:
    loaded = load_model(model_folder(name), dtype="float32", device=CPU)
    adapter = adapter_for(loaded, SessionConfig(model=name, train_mlp=False))  # B = 0: it changes nothing
    ours = score(loaded, adapter, datums(*LENGTHS), backward=False).logprobs
    plain = plain_model(model_folder(name))
    for example, logprobs in zip(datums(*LENGTHS), ours, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(logprobs, plain_logprobs(plain, example).numpy(), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in EXACT if name != "qwen3_moe"])
def test_gradients_are_those_of_peft_and_plain_autograd(name: str, model_folder: Callable[[str], Path]) -> None:
    loaded = load_model(model_folder(name), dtype="float32", device=CPU)
    adapter = drawn_adapter(loaded)
    ours = score(loaded, adapter, datums(*LENGTHS), wanted="weighted")
    reference = with_peft(model_folder(name), adapter_tensors(adapter), rank=4, alpha=6.0)
    loss = plain_loss(reference, datums(*LENGTHS))
    loss.backward()
    own = dict(reference.named_parameters())
    theirs = [own[name.replace(".weight", ".default.weight")].grad for name in adapter_tensors(adapter)]
    assert ours.gradients is not None
    assert ours.total_loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert relative(ours.gradients, theirs) < 1e-5


@pytest.mark.parametrize("name", ["llama", "llama_untied", "gemma2_capped_logits", "granite"])
def test_the_heads_adapter_gets_the_gradient_of_plain_autograd(name: str, model_folder: Callable[[str], Path]) -> None:
    loaded = load_model(model_folder(name), dtype="float32", device=CPU)
    adapter = drawn_adapter(loaded, train_unembed=True)
    ours = score(loaded, adapter, datums(*LENGTHS)).gradients
    # The model's own forward, unpacked, through the same layers: the head's is an ordinary module there.
    with loaded.active.use(adapter):
        theirs = torch.autograd.grad(plain_loss(loaded.model, datums(*LENGTHS)), adapter.parameters)
    assert ours is not None
    assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("token_budget", [1, 13, 1000])
def test_the_micro_batches_change_gradients_by_rounding_only(loaded: LoadedModel, token_budget: int) -> None:
    adapter = drawn_adapter(loaded)
    whole = score(loaded, adapter, datums(*LENGTHS), token_budget=40).gradients
    cut = score(loaded, adapter, datums(*LENGTHS), token_budget=token_budget).gradients
    assert whole is not None and cut is not None
    assert relative(cut, whole) < 1e-5


def test_a_fresh_adapter_leaves_the_base_model_as_it_is(loaded: LoadedModel) -> None:
    fresh = adapter_for(loaded, SessionConfig(model="", train_unembed=True))
    tokens = torch.arange(9)[None]
    with torch.no_grad():
        base = loaded.model(input_ids=tokens).logits
        with loaded.active.use(fresh):
            assert torch.equal(loaded.model(input_ids=tokens).logits, base)


def test_weights_enter_linearly_and_may_be_negative(loaded: LoadedModel) -> None:
    adapter = drawn_adapter(loaded)
    plus = score(loaded, adapter, [datum(9, weights=[1.0] * 9)])
    minus = score(loaded, adapter, [datum(9, weights=[-2.0] * 9)])
    assert minus.total_loss == pytest.approx(-2 * plus.total_loss)
    assert plus.gradients is not None and minus.gradients is not None
    assert relative(minus.gradients, [-2 * gradient for gradient in plus.gradients]) < 1e-6


def test_positions_without_weight_are_computed_only_if_asked_for(loaded: LoadedModel) -> None:
    adapter, examples = drawn_adapter(loaded), datums(*LENGTHS)
    every, some = score(loaded, adapter, examples), score(loaded, adapter, examples, wanted="weighted")
    for example, all_logprobs, logprobs in zip(examples, every.logprobs, some.logprobs, strict=True):
        idle = example.loss_fn_inputs["weights"].data == 0
        assert np.isnan(logprobs[idle]).all() and np.isfinite(all_logprobs).all()
        np.testing.assert_allclose(logprobs[~idle], all_logprobs[~idle], atol=1e-6)
    assert some.total_loss == pytest.approx(every.total_loss)
    assert some.gradients is not None and every.gradients is not None
    assert relative(some.gradients, every.gradients) < 1e-6


def test_without_any_weight_the_gradient_is_zero(loaded: LoadedModel) -> None:
    scores = score(loaded, drawn_adapter(loaded), [datum(9, weights=[0.0] * 9)], wanted="weighted")
    assert scores.total_loss == 0 and scores.gradients is not None
    assert all(not gradient.any() for gradient in scores.gradients)


def test_bfloat16_follows_float32(llama: Path, loaded: LoadedModel) -> None:
    half = load_model(llama, dtype="bfloat16", device=CPU)
    ours, theirs = (score(model, drawn_adapter(model), datums(*LENGTHS)) for model in (half, loaded))
    assert ours.gradients is not None and theirs.gradients is not None
    assert all(gradient.dtype == torch.float32 for gradient in ours.gradients)
    assert relative(ours.gradients, theirs.gradients) < 0.05


def test_between_two_micro_batches_the_model_may_do_other_work(loaded: LoadedModel) -> None:
    ours, others = drawn_adapter(loaded), drawn_adapter(loaded, train_unembed=True)
    loss = LOSSES["cross_entropy"]
    rows = rows_of(datums(*LENGTHS), loss, vocab_size=loaded.vocab_size, context_length=loaded.context_length)
    steps = scoring_steps(loaded, ours, rows, loss=loss, config={}, wanted="all", backward=True, token_budget=20)
    pauses = 0
    with pytest.raises(StopIteration) as ended:
        while True:
            next(steps)
            pauses += 1
            assert loaded.active.adapter is None
            score(loaded, others, datums(4), token_budget=20)
    alone = score(loaded, ours, datums(*LENGTHS), token_budget=20)
    paused = ended.value.value
    assert pauses == 2 and paused.total_loss == alone.total_loss
    assert alone.gradients is not None
    assert all(torch.equal(left, right) for left, right in zip(paused.gradients, alone.gradients, strict=True))


def test_experts_that_are_no_linear_layers_are_refused_by_name(model_folder: Callable[[str], Path]) -> None:
    loaded = load_model(model_folder("qwen3_moe"), dtype="float32", device=CPU)
    with pytest.raises(UnsupportedError, match=r"mlp\.experts"):
        adapter_for(loaded, SessionConfig(model="moe"))
