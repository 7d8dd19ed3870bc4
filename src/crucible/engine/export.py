# pyright: standard
# (torch and safetensors ship incomplete types)
"""How do trained weights leave for other programs? As a `peft` adapter, or merged into the base model."""

import json
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save_file

from crucible.engine import checkpoint as checkpoints
from crucible.engine.checkpoint import SavedAdapter
from crucible.engine.folder import whole_folder
from crucible.engine.lora import LoraLinear, fill_adapter
from crucible.engine.model import LoadedModel, adapter_for, load_model, quietly
from crucible.engine.options import ExportDTypeName
from crucible.errors import UserError
from crucible.ports.training_client import SessionConfig

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def export_peft(checkpoint: Path, out: Path, *, model_folder: Path) -> Path:
    """Write the adapter as a folder that `peft.PeftModel.from_pretrained` loads; returns `out`.

    checkpoint: a saved adapter; model_folder: its base model, whose tokenizer files are copied along.

    Raises:
        CheckpointError: if the checkpoint is missing or damaged.
        UserError: if `out` is there and not an empty folder, or cannot be written.
    """
    saved = checkpoints.read(checkpoint, optimizer=False)
    base = _base_name(saved, model_folder)
    with _writing(out) as folder:
        tensors = {name: tensor.contiguous() for name, tensor in saved.adapter.items()}
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = json.dumps(_peft_config(saved, base=base), indent=2)
        (folder / "adapter_config.json").write_text(config + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_PEFT_CARD.format(base=base, rank=saved.lora["lora_rank"]), encoding="utf-8")
        _copy_tokenizer(model_folder, folder)
    return out


def export_merged(checkpoint: Path, out: Path, *, model_folder: Path, dtype: str = "float32") -> Path:
    """Write base model plus adapter as one model that `transformers` loads; returns `out`.

    W + (alpha / rank) B A is computed in float32, then cast to `dtype`.

    Raises:
        CheckpointError: if the checkpoint is missing or damaged, or belongs to another base model.
        ModelError: if the base model cannot be loaded.
        UserError: if the dtype is unknown or cannot hold the weights, or `out` is there and not an empty folder, or
            cannot be written.
    """
    if dtype not in get_args(ExportDTypeName):
        known = " or ".join(get_args(ExportDTypeName))
        raise UserError.of("is not a known dtype", where="dtype", given=dtype, fix=f"Use {known}")
    saved = checkpoints.read(checkpoint, optimizer=False)
    with _writing(out) as folder:
        loaded = load_model(model_folder, dtype="float32", device=torch.device("cpu"))
        checkpoints.require_model(saved, loaded.fingerprint, given=str(model_folder))
        _merge(loaded, saved)
        loaded.model.to(dtype=getattr(torch, dtype))  # pyright: ignore[reportCallIssue]  (wrapped without its self)
        _require_finite(loaded, dtype)
        with quietly():
            loaded.model.save_pretrained(folder)
        card = _MERGED_CARD.format(base=_base_name(saved, model_folder), rank=saved.lora["lora_rank"], dtype=dtype)
        (folder / "README.md").write_text(card, encoding="utf-8")
        _copy_tokenizer(model_folder, folder)
    return out


def _merge(loaded: LoadedModel, saved: SavedAdapter) -> None:
    """Add the adapter to the model's own weights."""
    adapter = adapter_for(loaded, SessionConfig(model=saved.base_model, **saved.lora))
    fill_adapter(adapter, saved.adapter)
    model = loaded.model
    for name, matrices in adapter.layers.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, LoraLinear)
        if layer is model.get_output_embeddings() and model.config.tie_word_embeddings:
            # The unembedding was adapted and the embedding was not: from here on they are two matrices.
            layer.weight = torch.nn.Parameter(layer.weight.clone())
            model.config.tie_word_embeddings = False
        with torch.no_grad():
            layer.weight.add_(matrices.b @ matrices.a, alpha=adapter.scale)


def _require_finite(loaded: LoadedModel, dtype: str) -> None:
    """float16 ends at 65504: a larger weight would be written as infinity."""
    for name, weight in loaded.model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise UserError.of(
                f"{name} has values that {dtype} cannot hold", where="dtype", given=dtype, fix="Use bfloat16 or float32"
            )


@contextmanager
def _writing(out: Path) -> Generator[Path]:
    """`whole_folder`, for a place that the user chose."""
    taken = UserError.of("there is something at the place to export to", given=str(out), fix="Choose another folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise taken
    try:
        with whole_folder(out) as folder:
            yield folder
    except FileExistsError as error:
        raise taken from error
    except OSError as error:
        raise UserError.of(f"the export could not be written: {error}", given=str(out)) from error


def _copy_tokenizer(model_folder: Path, folder: Path) -> None:
    for name in _TOKENIZER_FILES:
        if (model_folder / name).is_file():
            shutil.copyfile(model_folder / name, folder / name)


def _peft_config(saved: SavedAdapter, *, base: str) -> dict[str, object]:
    """peft's LoraConfig, as JSON. Target modules are whole paths: a last name alone might match other layers too."""
    suffix = ".lora_A.weight"
    names = [name.removesuffix(suffix) for name in sorted(saved.adapter) if name.endswith(suffix)]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": saved.lora["lora_rank"],
        "lora_alpha": saved.lora["lora_alpha"],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "target_modules": [name.removeprefix("base_model.model.") for name in names],
    }


def _base_name(saved: SavedAdapter, model_folder: Path) -> str:
    """What another program finds the base model by: its hub id, or the folder on this machine."""
    hub = _HUB_ID.fullmatch(saved.base_model) and not Path(saved.base_model).exists()
    return saved.base_model if hub else str(model_folder.resolve())


_PEFT_CARD = """---
base_model: {base}
library_name: peft
---

A LoRA adapter of rank {rank}, trained with Crucible Kitchen.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```
"""

_MERGED_CARD = """---
base_model: {base}
library_name: transformers
---

The base model with a LoRA adapter of rank {rank}, trained with Crucible Kitchen, merged into its weights ({dtype}).

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```
"""
