"""Is a model loaded whole and frozen, shared, recognised, and refused by name where the engine would be wrong?"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from tiny_models import EXACT, VOCAB

from crucible.engine.lora import LoraLinear, layer_kind
from crucible.engine.model import LoadedModel, adapter_for, load_model
from crucible.engine.packing import Packing
from crucible.errors import ModelError, UnsupportedError
from crucible.ports.training_client import SessionConfig


def load(folder: Path, dtype: str = "float32") -> LoadedModel:
    return load_model(folder, dtype=dtype, device=torch.device("cpu"))


@pytest.fixture
def copied(llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama's folder to spoil."""
    return Path(shutil.copytree(llama, tmp_path / "copy"))


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", EXACT)
def test_every_supported_architecture_passes_the_probe_in_bfloat16(
    name: str, model_folder: Callable[[str], Path]
) -> None:
    loaded = load(model_folder(name), "bfloat16")
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gemma2", "softcap"),
        ("lfm2", "neither attention, feed-forward nor unembedding"),
        ("mamba", "Mamba"),
    ],
)
def test_a_model_that_the_engine_would_get_wrong_is_refused(
    name: str, reason: str, model_folder: Callable[[str], Path]
) -> None:
    with pytest.raises(ModelError, match=reason):
        load(model_folder(name))


def test_a_wrong_head_is_caught_by_the_probe(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(model_folder("granite")).head
    monkeypatch.setattr("crucible.engine.model._head", lambda model: type(plain)(weight=model.lm_head.weight))
    with pytest.raises(ModelError, match="GraniteForCausalLM computes something that this engine does not reproduce"):
        load(model_folder("granite"))


def test_layers_of_another_class_cannot_be_adapted_and_are_named(model_folder: Callable[[str], Path]) -> None:
    loaded = load(model_folder("gpt2"))
    with pytest.raises(UnsupportedError, match=r"transformer\.h\.0\.attn\.c_attn\.weight"):
        adapter_for(loaded, SessionConfig(model="gpt2"))


def test_a_session_that_adapts_nothing_is_refused(llama: Path) -> None:
    with pytest.raises(UnsupportedError, match="adapts no layer"):
        adapter_for(load(llama), SessionConfig(model="tiny", train_attn=False, train_mlp=False))


def test_flags_choose_the_layers(llama: Path) -> None:
    loaded = load(llama)
    names = {
        flag: set(adapter_for(loaded, SessionConfig(model="tiny", **{**off, flag: True})).layers)
        for off in [{"train_attn": False, "train_mlp": False}]
        for flag in ("train_attn", "train_mlp", "train_unembed")
    }
    assert len(names["train_attn"]) == 8 and all(".self_attn." in name for name in names["train_attn"])
    assert len(names["train_mlp"]) == 6 and all(".mlp." in name for name in names["train_mlp"])
    assert names["train_unembed"] == {"lm_head"}


def test_an_adapter_is_drawn_from_its_seed_alone(llama: Path) -> None:
    loaded, config = load(llama), SessionConfig(model="tiny", lora_rank=4, seed=3)
    first = adapter_for(loaded, config)
    torch.randn(5)
    again, other = adapter_for(loaded, config), adapter_for(loaded, SessionConfig(model="tiny", lora_rank=4, seed=4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters, again.parameters, strict=True))
    assert not torch.equal(first.parameters[0], other.parameters[0])
    assert first.parameters[0].abs().max() <= 32**-0.5 and not first.parameters[1].any()


def test_linear_layers_keep_their_parameters_and_names(llama: Path) -> None:
    loaded, plain = load(llama), tiny_models.plain_model(llama)
    assert loaded.model.state_dict().keys() == plain.state_dict().keys()
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert all(isinstance(layer, LoraLinear) for layers in loaded.layers.values() for layer in layers)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.0.self_attn.q_proj", "attn"),
        ("gpt_neox.layers.1.attention.dense", "attn"),
        ("model.layers.0.mlp.experts.3.up_proj", "mlp"),
        ("model.decoder.layers.0.fc1", "mlp"),
        ("model.layers.0.conv.in_proj", None),
    ],
)
def test_a_layers_kind_comes_from_its_path(name: str, kind: str | None) -> None:
    assert layer_kind(name) == kind


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        load(tmp_path)


def test_weights_that_are_missing_are_named_and_not_drawn(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack weights .*model\.layers\.1\.mlp\.up_proj\.weight"):
        load(copied)


def test_files_that_cannot_be_read_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(copied)
    edit_config(copied, model_type="no_such_model")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(copied)


def test_the_fingerprint_is_the_models_whatever_the_dtype(llama: Path, copied: Path) -> None:
    assert load(llama).fingerprint == load(copied, "bfloat16").fingerprint


def test_the_fingerprint_tells_other_weights_and_other_configs(llama: Path, copied: Path, tmp_path: Path) -> None:
    tiny_models.write("llama", tmp_path / "other", seed=1)
    edit_config(copied, rms_norm_eps=1e-3)
    assert len({load(folder).fingerprint for folder in (llama, tmp_path / "other", copied)}) == 3


def test_hidden_states_of_packed_sequences_do_not_depend_on_their_neighbours(llama: Path) -> None:
    loaded = load(llama)
    one, two, three = (torch.arange(7) * step % VOCAB for step in (3, 5, 11))
    with torch.no_grad():
        here = loaded.hidden_states(torch.cat([one, two]), Packing(lengths=(7, 7)))[:7]
        there = loaded.hidden_states(torch.cat([three, one]), Packing(lengths=(7, 7)))[7:]
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
