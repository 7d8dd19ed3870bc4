"""Which folder holds the model that a reference names?"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from crucible.adapters.assets.fetching import fetch_asset, file_sha256
from crucible.adapters.assets.home import crucible_home
from crucible.adapters.assets.table import PACKAGED
from crucible.errors import MissingExtraError, ModelError, PortError, did_you_mean
from crucible.ports import HubClient

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_TOKENIZER_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_MODEL_FILES = ("*.safetensors", *_TOKENIZER_FILES)


def resolve_model(
    reference: str, *, home: Path | None = None, hub: HubClient | None = None, weights: bool = True
) -> Path:
    """A folder in Hugging Face's layout (config.json, *.safetensors, tokenizer.json) for a model reference.

    reference: a packaged name (`smollm2-135m`), a local GGUF file, a local folder, or a hub id (`org/name`), tried
        in that order. GGUF is converted once, into `home` (by default `crucible_home()`).
    weights: False if the tokenizer's files will do (it saves a hub download).

    Raises:
        ModelError: if the reference names nothing, or nothing that can be read as a model.
        MissingExtraError: if a GGUF file must be converted and the engine's packages are not installed.
        PortError: if the hub could not be reached.
    """
    cache = (home or crucible_home()) / "converted"
    models = {name: asset for name, asset in PACKAGED.items() if asset.kind == "model"}
    if reference in models:
        asset = models[reference]
        folder = cache / _converted_name(asset.sha256)
        return folder if folder.is_dir() else _converted(fetch_asset(asset, home=home), into=folder)
    path = Path(reference).expanduser()
    if path.is_dir():
        return _checked_folder(path, given=reference)
    if path.is_file():
        if not _is_gguf(path):
            raise ModelError.of(
                "the file is not a GGUF model", given=reference, fix="Give a .gguf file, or the folder with config.json"
            )
        folder = cache / _converted_name(file_sha256(path))
        return folder if folder.is_dir() else _converted(path, into=folder)
    if _HUB_ID.fullmatch(reference) and not reference.startswith(".") and path.suffix != ".gguf":
        return _from_hub(reference, hub=hub, patterns=_MODEL_FILES if weights else _TOKENIZER_FILES)
    raise ModelError.of(
        f"there is no such model, {did_you_mean(reference, models)}",
        given=reference,
        fix="A model is a packaged name, a GGUF file, a local folder with config.json, or a hub id (org/name)",
    )


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _converted_name(sha256: str) -> str:
    """The folder of a converted GGUF. `f1` is the form of the conversion: another form is another folder."""
    return f"{sha256[:16]}-f1"


def _converted(gguf: Path, *, into: Path) -> Path:
    from crucible.engine.gguf import convert_gguf

    print(f"converting {gguf.name} to float32 safetensors, once", file=sys.stderr, flush=True)
    try:
        return convert_gguf(gguf, into)
    except ModuleNotFoundError as error:
        missing = error.name or "torch"
        raise MissingExtraError.for_extra("torch", needed_by="reading a GGUF model", module=missing) from error
    except OSError as error:
        raise ModelError.of(
            f"the converted model could not be stored: {error}",
            where=str(gguf),
            fix="Set CRUCIBLE_HOME to a folder that can be written and has room",
        ) from error


def _checked_folder(path: Path, *, given: str) -> Path:
    if not (path / "config.json").is_file():
        raise ModelError.of(
            "the folder holds no config.json",
            given=given,
            fix="Give a folder that transformers' save_pretrained wrote, or a GGUF file",
        )
    return path.resolve()


def _from_hub(reference: str, *, hub: HubClient | None, patterns: Sequence[str]) -> Path:
    if hub is None:
        raise ModelError.of(
            "there is no such folder here, and no hub to ask",
            given=reference,
            fix="Give a local folder, a GGUF file or a packaged name",
        )
    try:
        folder = hub.snapshot(reference, allow_patterns=patterns)
    except PortError as error:
        if error.retryable:
            raise
        raise ModelError.of(
            f"the hub has no such model to give: {error.message}",
            given=reference,
            fix="Check the id and, for a gated model, your access",
        ) from error
    return _checked_folder(folder, given=reference)
