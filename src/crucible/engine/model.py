# pyright: standard
# (transformers' classes are loosely typed)
"""How does a local folder become the frozen model that sessions share?

Any causal language model of transformers that uses its attention interface loads. What this engine assumes
about a model (its logits are its head applied to its last hidden states; packed sequences do not see each
other) is probed at load against the model's own plain forward, so a model it does not fit is refused, not wrong.
"""

import hashlib
import json
import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from crucible.engine.attention import IMPLEMENTATION, packed
from crucible.engine.attention_decode import NoCache, reading
from crucible.engine.attention_shared import TreeAttention
from crucible.engine.head import Head, head_logits
from crucible.engine.lora import ActiveAdapter, LayerKind, LoraAdapter, LoraLinear, layer_kind, new_adapter
from crucible.engine.options import DTypeName
from crucible.engine.packing import Packing
from crucible.engine.prefix_tree import PrefixTree
from crucible.errors import ModelError, Problem, UnsupportedError
from crucible.ports.training_client import SessionConfig

_LOG = logging.getLogger("crucible")

_VOLATILE_CONFIG = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
_PROBE_LENGTHS = (5, 7)
_PROBE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A frozen causal language model, its adaptable layers, and what the engine knows about it.

    model: the transformers model; its linear layers are `LoraLinear`.
    head: how last hidden states become logits.
    layers: the adaptable layers by kind, each in the model's order.
    unadaptable: names of weight matrices, by kind, that are no plain linear layer and can carry no adapter.
    context_length: most positions, where the model's config states it.
    fingerprint: sha256 of config, shapes and a sample of the weights; the same in float32 and bfloat16.
    shares: whether it computes `shared_hidden_states` as it does each sequence alone.
    """

    model: PreTrainedModel
    head: Head
    layers: Mapping[LayerKind, Sequence[LoraLinear]]
    unadaptable: Mapping[LayerKind, Sequence[str]]
    active: ActiveAdapter
    vocab_size: int
    context_length: int | None
    fingerprint: str
    shares: bool = False

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def hidden_states(self, tokens: Tensor, packing: Packing) -> Tensor:
        """(packing.total,) token ids of packed sequences -> last hidden states (packing.total, H)."""
        positions = torch.cat([torch.arange(length, device=tokens.device) for length in packing.lengths])
        with packed(packing):
            output = self.model.base_model(input_ids=tokens[None], position_ids=positions[None], use_cache=False)
        return output.last_hidden_state[0]

    def shared_hidden_states(self, tree: PrefixTree) -> Tensor:
        """Last hidden states (n, H) of a tree's n tokens, each after those that it continues."""
        tokens, positions = (torch.from_numpy(ids)[None].to(self.device) for ids in (tree.tokens, tree.positions))
        with reading(TreeAttention(tree, device=self.device)):
            output = self.model.base_model(
                input_ids=tokens, position_ids=positions, past_key_values=NoCache(), use_cache=False
            )
        return output.last_hidden_state[0]


def load_model(folder: Path, *, dtype: DTypeName, device: torch.device) -> LoadedModel:
    """Load, freeze, fit with `LoraLinear` layers, and probe.

    Raises:
        ModelError: if the folder holds no causal language model, weights are missing, or this engine would
            not compute it exactly.
    """
    model = _read(folder, dtype=getattr(torch, dtype), device=device)
    active = ActiveAdapter()
    layers = _fit_layers(model, active)
    loaded = LoadedModel(
        model=model,
        head=_head(model),
        layers=layers,
        unadaptable=_unadaptable(model),
        active=active,
        vocab_size=model.config.vocab_size,
        context_length=getattr(model.config, "max_position_embeddings", None),
        fingerprint=_fingerprint(model),
    )
    _probe(loaded, tolerance=_PROBE_TOLERANCE[dtype])
    return replace(loaded, shares=_shares(loaded, tolerance=_PROBE_TOLERANCE[dtype]))


def adapter_parameters(loaded: LoadedModel, config: SessionConfig) -> int:
    """Numbers in the matrices of `adapter_for`."""
    layers = [layer for kind in _asked(config) for layer in loaded.layers[kind]]
    return sum(config.lora_rank * (layer.in_features + layer.out_features) for layer in layers)


def _asked(config: SessionConfig) -> list[LayerKind]:
    wanted = {"attn": config.train_attn, "mlp": config.train_mlp, "unembed": config.train_unembed}
    kinds: tuple[LayerKind, ...] = ("attn", "mlp", "unembed")
    return [kind for kind in kinds if wanted[kind]]


def adapter_for(loaded: LoadedModel, config: SessionConfig) -> LoraAdapter:
    """A fresh adapter on the layers that the session asks for.

    Raises:
        UnsupportedError: if it asks for no layer, or for a kind whose weights cannot carry an adapter.
    """
    asked = _asked(config)
    if stuck := [name for kind in asked for name in loaded.unadaptable[kind]]:
        what = "these weights are no plain linear layers and cannot carry an adapter"
        raise UnsupportedError.of(what, where=config.model, given=", ".join(stuck))
    layers = [layer for kind in asked for layer in loaded.layers[kind]]
    if not layers:
        fix = "Set train_attn, train_mlp or train_unembed"
        raise UnsupportedError.of("the session adapts no layer", where=config.model, fix=fix)
    return new_adapter(layers, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed, device=loaded.device)


def _read(folder: Path, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    if not (folder / "config.json").is_file():
        raise ModelError.of("there is no model here: config.json is missing", where=str(folder))
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.get_text_config() is not config:
            raise ModelError.of("the model is not text-only", where=str(folder), given=type(config).__name__)
        with quietly():
            model, report = cast(Any, AutoModelForCausalLM).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation=IMPLEMENTATION,
                local_files_only=True,
                output_loading_info=True,
            )
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError.of(f"the model cannot be loaded: {error}", where=str(folder)) from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError.of("the model's files lack weights", where=str(folder), given=", ".join(missing))
    if getattr(model, "hf_quantizer", None) is not None:
        raise ModelError.of("the model is quantized", where=str(folder), fix="Give its dequantized weights")
    return model.to(device).eval().requires_grad_(False)


@contextmanager
def quietly() -> Generator[None]:
    """Without transformers' progress bars: this program shows its own."""
    shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.logging.enable_progress_bar()


def _fit_layers(model: PreTrainedModel, active: ActiveAdapter) -> dict[LayerKind, list[LoraLinear]]:
    """Replace each plain linear layer by a `LoraLinear` of the same parameters."""
    layers: dict[LayerKind, list[LoraLinear]] = {"attn": [], "mlp": [], "unembed": []}
    unknown: list[str] = []
    unembedding = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear:
            continue
        kind = "unembed" if module is unembedding else layer_kind(name)
        if kind is None:
            unknown.append(name)
            continue
        parent, _, child = name.rpartition(".")
        layers[kind].append(LoraLinear(module, name=name, active=active))
        setattr(model.get_submodule(parent), child, layers[kind][-1])
    if unknown:
        raise ModelError.of(
            f"{type(model).__name__} has linear layers that are neither attention, feed-forward nor unembedding",
            given=", ".join(unknown),
        )
    return layers


def _unadaptable(model: PreTrainedModel) -> dict[LayerKind, list[str]]:
    """Weight matrices of attention and feed-forward layers that no `LoraLinear` owns."""
    names: dict[LayerKind, list[str]] = {"attn": [], "mlp": [], "unembed": []}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            kind = layer_kind(name)
            if kind is not None and parameter.ndim >= 2 and not isinstance(module, LoraLinear):
                names[kind].append(name)
    return names


def _head(model: PreTrainedModel) -> Head:
    config, unembedding = model.config, model.get_output_embeddings()
    if not isinstance(unembedding, LoraLinear):
        raise ModelError.of(f"{type(model).__name__} has no linear unembedding", given=type(unembedding).__name__)
    scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
    scale /= getattr(config, "logits_scaling", None) or 1.0  # Granite
    softcap = getattr(config, "final_logit_softcapping", None)  # Gemma
    return Head(weight=unembedding.weight, bias=unembedding.bias, scale=scale, softcap=softcap)


def _fingerprint(model: PreTrainedModel) -> str:
    config = {key: value for key, value in model.config.to_dict().items() if key not in _VOLATILE_CONFIG}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weight in model.state_dict().items():
        flat = weight.reshape(-1)
        sample = flat[:: max(1, len(flat) // 64)].to("cpu", torch.bfloat16)
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _probe(loaded: LoadedModel, *, tolerance: float) -> None:
    """Compare packed hidden states through our head with the model's own logits for each sequence alone."""
    model, name = loaded.model, type(loaded.model).__name__
    ids = torch.arange(sum(_PROBE_LENGTHS), device=loaded.device) * 7919 % loaded.vocab_size
    packing = Packing(lengths=_PROBE_LENGTHS)
    ours = head_logits(loaded.head, loaded.hidden_states(ids, packing))
    model.set_attn_implementation("eager")
    if model.config._attn_implementation != "eager":
        raise ModelError.of(f"{name} does not use transformers' attention interface")
    try:
        alone = [model(input_ids=ids[None, start:end], use_cache=False).logits[0] for start, end in packing.spans]
    finally:
        model.set_attn_implementation(IMPLEMENTATION)
    gap = _gap(ours, torch.cat(alone))
    if not gap < tolerance:
        raise ModelError(
            Problem(
                what=f"{name} computes something that this engine does not reproduce",
                given=f"relative difference {gap:.2g} between packed and plain logits, allowed {tolerance:g}",
            )
        )


@torch.no_grad()
def _shares(loaded: LoadedModel, *, tolerance: float) -> bool:
    """Whether sequences with a common beginning, computed once, have the logits that each has alone."""
    ids = torch.arange(sum(_PROBE_LENGTHS), device=loaded.device) * 7919 % loaded.vocab_size
    first, second = ids[: _PROBE_LENGTHS[1]], torch.cat([ids[:3], ids[_PROBE_LENGTHS[1] :]])
    tree = PrefixTree.of([first.cpu().numpy(), second.cpu().numpy()])
    alone = loaded.hidden_states(torch.cat([first, second]), Packing(lengths=(len(first), len(second))))
    try:
        shared = loaded.shared_hidden_states(tree)
    except Exception as error:  # noqa: BLE001  (a model's code may refuse it in any way; it then trains row by row)
        _LOG.info("%s: prompts are not shared in training: %s", type(loaded.model).__name__, error)
        return False
    places = torch.from_numpy(np.concatenate(tree.places)).to(loaded.device)
    return _gap(*(head_logits(loaded.head, hidden) for hidden in (shared[places], alone))) < tolerance


def _gap(ours: Tensor, theirs: Tensor) -> float:
    """The logits' relative difference."""
    theirs = theirs.float()
    spread = (theirs - theirs.mean(dim=-1, keepdim=True)).norm()
    return float((ours - theirs).norm() / spread)
