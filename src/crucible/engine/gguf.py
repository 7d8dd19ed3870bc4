# pyright: standard
# (transformers and gguf ship incomplete types)
"""How does a GGUF file become a folder that every program for Hugging Face models reads?

The weights are unpacked once into float32, which holds every GGUF value exactly. (In bfloat16 the folder would be
half as large, but another model: with SmolLM2-135M at Q4_1, logprobs move by 0.007 on average and 0.2 at most.)
"""

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

from crucible.engine.folder import whole_folder
from crucible.errors import ModelError

_DIGIT_SPLITTERS = frozenset({"smollm", "starcoder", "refact", "command-r"})
"""GGUF's names of the pre-tokenizers that cut every digit off before anything else, as llama.cpp reads them."""


def convert_gguf(gguf: Path, out: Path) -> Path:
    """Write the model of a GGUF file to the folder `out`, and return `out`.

    The folder has config.json, generation_config.json, model.safetensors (float32), tokenizer.json,
    tokenizer_config.json and the chat template. It appears whole or not at all; where another process made it
    meanwhile, theirs stays.

    Raises:
        ModelError: if the file is damaged, or of a kind that transformers cannot read.
        OSError: if the folder cannot be written.
    """
    metadata = _read_metadata(gguf)
    with suppress(FileExistsError), whole_folder(out) as scratch:
        _convert(gguf, scratch)
        _mend_pre_tokenizer(scratch / "tokenizer.json", metadata["tokenizer.ggml.pre"])
    return out


def _read_metadata(gguf: Path) -> dict[str, Any]:
    """What the conversion needs to know; reading it also shows whether the file is whole."""
    from gguf import GGUFReader

    try:
        fields = GGUFReader(gguf).fields
    except (ValueError, IndexError, KeyError) as error:
        raise ModelError.of(
            "the GGUF file is truncated or damaged", where=str(gguf), fix="Fetch it again, and compare its size"
        ) from error
    return {key: fields[key].contents() if key in fields else None for key in ("tokenizer.ggml.pre",)}


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from crucible.engine.model import quietly

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name, "local_files_only": True}
    try:
        with quietly(), _without_bars():
            # Left packed, the model could be neither trained nor saved.
            model = AutoModelForCausalLM.from_pretrained(
                **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
            )
            tokenizer = AutoTokenizer.from_pretrained(**source)
    # transformers raises any of these, a kind of RuntimeError for an architecture that it cannot read from GGUF.
    except (ValueError, KeyError, RuntimeError) as error:
        raise ModelError.of(
            f"transformers cannot read this GGUF model: {error}",
            where=str(gguf),
            fix="Give the model in Hugging Face's own layout instead",
        ) from error
    with quietly():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _without_bars() -> Generator[None]:
    """Without the bar that transformers draws by `tqdm` itself while it unpacks: its own switch does not reach that."""
    from tqdm import tqdm

    drawn = tqdm.__init__
    setattr(tqdm, "__init__", partialmethod(drawn, disable=True))  # noqa: B010  (a plain assignment has another type)
    try:
        yield
    finally:
        setattr(tqdm, "__init__", drawn)  # noqa: B010  (as above)


def _mend_pre_tokenizer(tokenizer_json: Path, name: str | None) -> None:
    """Put back the splitting of digits, which transformers (seen in 5.23) loses.

    Without it two newlines before a digit are two tokens, where the model was trained on one.
    """
    if name not in _DIGIT_SPLITTERS:
        return
    content = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    tokenizer_json.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
