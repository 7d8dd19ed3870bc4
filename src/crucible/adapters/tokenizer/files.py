"""What do the files of a model's folder say of its tokenizer?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from crucible.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """The content of a tokenizer's files.

    tokenizer_json: the text of tokenizer.json.
    named_tokens: `bos_token`, `eos_token`, ... to the token's text.
    added_tokens: the tokens that tokenizer_config.json adds, in order of id.
    templates: chat templates by name; the usual one is `default`.
    eos_ids: ids that end a generation, as the model's own configuration says.
    """

    tokenizer_json: str
    named_tokens: Mapping[str, str]
    added_tokens: tuple[Mapping[str, Any], ...]
    templates: Mapping[str, str]
    eos_ids: frozenset[int]


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read a folder.

    Raises:
        ModelError: if there is no tokenizer.json, or a file is malformed.
    """
    source = folder / "tokenizer.json"
    if not source.is_file():
        raise ModelError.of(
            "the model's folder holds no tokenizer.json",
            where=str(folder),
            fix="Save one there with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
        )
    config = _json(folder / "tokenizer_config.json")
    tokens = {**config, **_json(folder / "special_tokens_map.json")}
    added = config.get("added_tokens_decoder", {})
    return TokenizerFiles(
        tokenizer_json=source.read_text(encoding="utf-8"),
        named_tokens={key: _token_text(value) for key, value in tokens.items() if key.endswith("_token") and value},
        added_tokens=tuple(added[key] for key in sorted(added, key=int)),
        templates=_templates(folder, config),
        eos_ids=_eos_ids(folder),
    )


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError.of(f"the file is not JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise ModelError.of("the file does not hold a JSON object", where=str(path))
    return cast(dict[str, Any], content)


def _token_text(value: Any) -> str:
    """A token is written as its text, or as an object with its text as `content`."""
    return str(value["content"] if isinstance(value, dict) else value)  # pyright: ignore[reportUnknownArgumentType]  (JSON)


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Those of tokenizer_config.json (one, or a list of named ones), then the files', which win."""
    templates: dict[str, str] = {}
    inside = config.get("chat_template")
    if isinstance(inside, str):
        templates["default"] = inside
    elif isinstance(inside, list):
        templates |= {entry["name"]: entry["template"] for entry in cast(list[dict[str, str]], inside)}
    named = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    templates |= {path.stem: path.read_text(encoding="utf-8") for path in named}
    alone = folder / "chat_template.jinja"
    if alone.is_file():
        templates["default"] = alone.read_text(encoding="utf-8")
    return templates


def _eos_ids(folder: Path) -> frozenset[int]:
    """Of generation_config.json, or of config.json for a model without one; an id or a list of ids."""
    generation = folder / "generation_config.json"
    config = _json(generation if generation.is_file() else folder / "config.json")
    given: list[int] | int | None = config.get("eos_token_id")
    return frozenset(given if isinstance(given, list) else [] if given is None else [given])
