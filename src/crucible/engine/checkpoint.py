# pyright: standard
# (safetensors is untyped)
"""What is a saved adapter on disk, and is this one whole and of this model?

A checkpoint is a folder that appears whole or not at all (temporary name, fsync, rename):
`adapter.safetensors` (peft's tensor names, float32), `optimizer.safetensors` (AdamW's moments and step; only
where asked for), `checkpoint.json` (what it belongs to, what computed it, sha256 of the files).
Gradients accumulated and not yet applied are not part of it: with optimizer state, none may be pending.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from crucible.engine.folder import take_away, whole_folder
from crucible.errors import CheckpointError, ForeignCheckpointError
from crucible.ports.training_client import SessionConfig

ADAPTER, OPTIMIZER, MANIFEST = "adapter.safetensors", "optimizer.safetensors", "checkpoint.json"
FORMAT_VERSION = 2

Kind: TypeAlias = Literal["weights", "sampler_weights"]
"""What a checkpoint was saved for; also the folder that it lies in."""

_LORA_FIELDS = ("lora_rank", "lora_alpha", "seed", "train_attn", "train_mlp", "train_unembed")
_PACKAGES = ("crucible-kitchen", "torch", "transformers", "safetensors", "numpy")


@dataclass(frozen=True, kw_only=True)
class SavedAdapter:
    """A checkpoint that was read and found whole.

    base_model: the reference that the session was started with; fingerprint: of that model's weights.
    lora: rank, alpha, seed and which layers, by the names of `SessionConfig`.
    optimizer: None where the checkpoint has no optimizer state or it was not asked for.
    digest, policy_version: as in `SavedWeights`.
    """

    base_model: str
    fingerprint: str
    lora: Mapping[str, Any]
    adapter: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] | None
    digest: str
    policy_version: int


def save(
    folder: Path,
    *,
    config: SessionConfig,
    fingerprint: str,
    dtype: str,
    device: str,
    adapter: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor] | None,
    policy_version: int,
    overwrite: bool = False,
) -> str:
    """Write a checkpoint at `folder`; returns its digest.

    Raises:
        CheckpointError: if there is something at `folder` that is not to be overwritten.
        OSError: if the disk refuses it.
    """
    taken = CheckpointError.of("a checkpoint of this name exists", where=str(folder), fix="Choose another name")
    if folder.exists() and not overwrite:
        raise taken
    files = {ADAPTER: adapter} | ({} if optimizer is None else {OPTIMIZER: optimizer})
    try:
        with whole_folder(folder, replace=overwrite) as scratch:
            for name, tensors in files.items():
                _write(tensors, scratch / name)
            described = {
                "format_version": FORMAT_VERSION,
                "base_model": config.model,
                "base_model_fingerprint": fingerprint,
                "lora": {name: value for name, value in asdict(config).items() if name in _LORA_FIELDS},
                "policy_version": policy_version,
                "user_metadata": dict(config.user_metadata),
                "dtype": dtype,
                "device": device,
                "threads": torch.get_num_threads(),
                "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
                "sha256": {name: _sha256(scratch / name) for name in files},
            }
            (scratch / MANIFEST).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            digest = _digest(described)
    except FileExistsError as error:
        raise taken from error
    return digest


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, path)
    except SafetensorError as error:  # its name for whatever the disk refused
        raise OSError(f"{path.name} could not be written: {error}") from error


def delete(folder: Path) -> None:
    """Delete a checkpoint, if there is one; a kill leaves it whole or gone."""
    if (folder / MANIFEST).is_file():
        take_away(folder)


def read(folder: Path, *, optimizer: bool, digest: str = "") -> SavedAdapter:
    """Read a checkpoint, checking its format and the hashes of its files; `digest` is that of `save`, if known.

    Raises:
        CheckpointError: if it is missing, damaged, not of this digest, of a newer format, or lacks the optimizer
            state asked for.
    """
    try:
        described = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = _digest(described)
        if digest and found != digest:
            raise CheckpointError.of(
                "the checkpoint is not the one that was saved: its digest is another", where=str(folder)
            )
        version, hashes = described["format_version"], described["sha256"]
        if version != FORMAT_VERSION:
            raise CheckpointError.of("the checkpoint has an unknown format", where=str(folder), given=version)
        if optimizer and OPTIMIZER not in hashes:
            raise CheckpointError.of("the checkpoint has no optimizer state", where=str(folder))
        for name in [ADAPTER, *([OPTIMIZER] if optimizer else [])]:
            if _sha256(folder / name) != hashes[name]:
                raise CheckpointError.of("the file is damaged: its sha256 is not the recorded one", where=name)
        return SavedAdapter(
            base_model=described["base_model"],
            fingerprint=described["base_model_fingerprint"],
            lora={name: described["lora"][name] for name in _LORA_FIELDS},
            adapter=load_file(folder / ADAPTER),
            optimizer=load_file(folder / OPTIMIZER) if optimizer else None,
            digest=found,
            policy_version=described["policy_version"],
        )
    except FileNotFoundError as error:
        missing = Path(error.filename).name if error.filename else ""
        raise CheckpointError.of("there is no whole checkpoint here", where=str(folder), given=missing) from error
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError.of(f"the checkpoint cannot be read: {error!r}", where=str(folder)) from error


def require_model(saved: SavedAdapter, fingerprint: str, *, given: str) -> None:
    """Raise ForeignCheckpointError unless the checkpoint was made on the base model of this fingerprint."""
    if saved.fingerprint != fingerprint:
        raise ForeignCheckpointError.of(
            f"the checkpoint belongs to another base model ({saved.base_model}), or to other weights of it", given=given
        )


def _digest(described: object) -> str:
    """Of all that the checkpoint is, its files' hashes included; not of what its user says of it (the run's name), so
    that the same weights of two runs are known as the same.

    Raises:
        TypeError: if it is no JSON object.
    """
    if not isinstance(described, dict):
        raise TypeError(f"a checkpoint's description is an object, not {type(described).__name__}")
    content = {name: value for name, value in described.items() if name != "user_metadata"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
