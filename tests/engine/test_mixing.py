"""Do calls that share a pass through the base model get the numbers that they would get alone?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import datums

from crucible.engine.lora import LoraAdapter
from crucible.engine.losses import LOSSES
from crucible.engine.mixing import Mixer, can_mix
from crucible.engine.model import LoadedModel, adapter_for, load_model
from crucible.engine.rows import rows_of
from crucible.engine.scoring import Scores, scoring_steps
from crucible.errors import DataError
from crucible.ports.datum import Datum, TensorData
from crucible.ports.training_client import LogprobsWanted, SessionConfig

CPU = torch.device("cpu")
LAYERS = (
    {},
    {"train_mlp": False},
    {"train_unembed": True},
    {"train_attn": False, "train_mlp": False, "train_unembed": True},
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one session asks for."""

    lengths: Sequence[int] = (9, 20, 4)
    seed: int = 0
    rank: int = 3
    layers: int = 0
    loss_fn: str = "cross_entropy"
    wanted: LogprobsWanted = "all"
    backward: bool = True

    def adapter(self, loaded: LoadedModel) -> LoraAdapter:
        config = SessionConfig(model="", lora_rank=self.rank, seed=self.seed, **LAYERS[self.layers])
        adapter = adapter_for(loaded, config)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for matrices in adapter.layers.values():
                matrices.b.normal_(std=0.1, generator=generator)
        return adapter

    def examples(self) -> list[Datum]:
        plain = datums(*self.lengths, seed=self.seed)
        return plain if self.loss_fn == "cross_entropy" else [as_sample(datum, self.loss_fn) for datum in plain]

    def asked(self, loaded: LoadedModel) -> dict[str, object]:
        loss = LOSSES[self.loss_fn]
        rows = rows_of(self.examples(), loss, vocab_size=loaded.vocab_size, context_length=loaded.context_length)
        asked = {"loss": loss, "config": loss.config, "wanted": self.wanted, "backward": self.backward}
        return {"loaded": loaded, "adapter": self.adapter(loaded), "rows": rows, **asked}


def as_sample(datum: Datum, loss_fn: str) -> Datum:
    """The datum with its weights as advantages of tokens that were sampled with logprobs of about -5."""
    weights = datum.loss_fn_inputs["weights"].data
    tensors = {
        "target_tokens": datum.loss_fn_inputs["target_tokens"],
        "logprobs": TensorData(np.linspace(-6, -4, len(weights), dtype=np.float32)),
        "advantages": TensorData(weights),
    }
    if loss_fn == "gspo":
        tensors["sequence_ratio_mask"] = TensorData(np.ones(len(weights), np.float32))
    return Datum(datum.model_input, tensors)


def alone(loaded: LoadedModel, call: Call) -> Scores:
    steps = scoring_steps(**call.asked(loaded), token_budget=40)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            return finished.value


def together(loaded: LoadedModel, calls: Sequence[Call], *, token_budget: int = 40) -> list[Scores]:
    mixer = Mixer(token_budget=token_budget)
    futures = [mixer.submit(**call.asked(loaded)) for call in calls]
    while mixer.busy:
        mixer.step()
    return [future.result() for future in futures]


def assert_equal(ours: Scores, theirs: Scores) -> None:
    """Equal to float noise: 1e-5 in values, and of the gradient's norm."""
    for one, other in zip([*ours.logprobs, *ours.losses], [*theirs.logprobs, *theirs.losses], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert ours.metrics == pytest.approx(dict(theirs.metrics), rel=1e-4)
    assert (ours.gradients is None) == (theirs.gradients is None)
    if ours.gradients is not None and theirs.gradients is not None:
        one, other = (
            torch.cat([g.flatten() for g in gradients]).double() for gradients in (ours.gradients, theirs.gradients)
        )
        assert float((one - other).norm()) <= 1e-5 * float(other.norm())


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("model") / "llama"
    tiny_models.write("llama_untied", folder)
    return load_model(folder, dtype="float32", device=CPU)


CALLS = st.builds(
    Call,
    lengths=st.lists(st.integers(1, 45), max_size=5),
    seed=st.integers(0, 9),
    rank=st.integers(1, 5),
    layers=st.integers(0, len(LAYERS) - 1),
    loss_fn=st.sampled_from(["cross_entropy", "importance_sampling", "ppo", "gspo"]),
    wanted=st.sampled_from(["all", "weighted"]),
    backward=st.booleans(),
)


@settings(deadline=None, max_examples=40)
@given(calls=st.lists(CALLS, min_size=1, max_size=5), token_budget=st.integers(1, 100))
def test_any_calls_together_are_those_calls_alone(loaded: LoadedModel, calls: list[Call], token_budget: int) -> None:
    for call, scores in zip(calls, together(loaded, calls, token_budget=token_budget), strict=True):
        assert_equal(scores, alone(loaded, call))


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "granite", "gpt_neox"])
def test_other_architectures_mix_too(name: str, tmp_path: Path) -> None:
    tiny_models.write(name, tmp_path / name)
    loaded = load_model(tmp_path / name, dtype="float32", device=CPU)
    calls = [Call(seed=1), Call(seed=2, rank=5, lengths=(31, 2)), Call(seed=3, layers=1)]
    for call, scores in zip(calls, together(loaded, calls), strict=True):
        assert_equal(scores, alone(loaded, call))


def test_bfloat16_gradients_reach_the_float32_matrices(tmp_path: Path) -> None:
    tiny_models.write("llama", tmp_path / "llama")
    loaded = load_model(tmp_path / "llama", dtype="bfloat16", device=CPU)
    first, second = together(loaded, [Call(seed=1), Call(seed=2)])
    for call, scores in ((Call(seed=1), first), (Call(seed=2), second)):
        assert scores.gradients is not None and all(g.dtype == torch.float32 for g in scores.gradients)
        own = torch.cat([g.flatten() for g in scores.gradients])
        expected = torch.cat([g.flatten() for g in alone(loaded, call).gradients or []])
        assert float((own - expected).norm()) < 0.05 * float(expected.norm())


def test_a_micro_batch_takes_rows_of_every_waiting_call(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, run = [], type(loaded).hidden_states

    def hidden_states(self: LoadedModel, tokens: torch.Tensor, packing: object) -> torch.Tensor:
        seen.append(packing.lengths)
        return run(self, tokens, packing)

    monkeypatch.setattr(type(loaded), "hidden_states", hidden_states)
    together(loaded, [Call(lengths=(8, 8, 8), seed=1), Call(lengths=(10, 10), seed=2), Call(lengths=(5,), seed=3)])
    assert seen == [(8, 8, 10, 5), (8, 10)]


def test_a_call_that_joins_between_two_micro_batches_is_computed_with_the_rest(loaded: LoadedModel) -> None:
    mixer, early, late = Mixer(token_budget=20), Call(lengths=(10,) * 6, seed=1), Call(lengths=(10, 10), seed=2)
    first = mixer.submit(**early.asked(loaded))
    mixer.step()
    second = mixer.submit(**late.asked(loaded))
    while not second.done():
        mixer.step()
    assert not first.done()
    while mixer.busy:
        mixer.step()
    assert_equal(first.result(), alone(loaded, early))
    assert_equal(second.result(), alone(loaded, late))


def test_a_call_whose_loss_is_no_number_fails_alone(loaded: LoadedModel) -> None:
    mixer, good = Mixer(token_budget=100), Call(seed=1)
    bad = replace(good, loss_fn="importance_sampling").asked(loaded)
    bad["rows"][0].inputs["logprobs"][:] = -1e4
    failing, other = mixer.submit(**bad), mixer.submit(**good.asked(loaded))
    while mixer.busy:
        mixer.step()
    with pytest.raises(DataError, match="datum 0"):
        failing.result()
    assert_equal(other.result(), alone(loaded, good))


def test_a_diverged_adapter_does_not_touch_its_neighbours(loaded: LoadedModel) -> None:
    mixer, good = Mixer(token_budget=100), Call(seed=1)
    broken = Call(seed=2).asked(loaded)
    with torch.no_grad():
        next(iter(broken["adapter"].layers.values())).b.fill_(torch.nan)
    mixer.submit(**broken)
    other = mixer.submit(**good.asked(loaded))
    while mixer.busy:
        mixer.step()
    assert_equal(other.result(), alone(loaded, good))


def test_layers_of_a_routers_experts_do_not_mix(loaded: LoadedModel) -> None:
    assert can_mix(loaded)
    layer = loaded.layers["mlp"][0]
    routed = replace(loaded, layers={"mlp": [layer]})
    layer.layer_name, name = "model.layers.0.mlp.experts.3.up_proj", layer.layer_name
    assert not can_mix(routed)
    layer.layer_name = name
