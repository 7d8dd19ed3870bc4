"""What does a model's folder say of the model, before any weight is read?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from crucible.errors import ModelError
from crucible.ports.model_facts import ModelFacts


def model_facts(folder: Path) -> ModelFacts | None:
    """The facts in config.json; None if it does not say them.

    Raises:
        ModelError: if the folder has no config.json, or it is not JSON.
    """
    file = folder / "config.json"
    try:
        read: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError.of(f"the model's configuration cannot be read: {error}", where=str(file)) from error
    if not isinstance(read, dict):
        return None
    config = cast("Mapping[str, Any]", read)
    # A model of several kinds of input keeps the sizes of its language model apart.
    sizes = {**config, **cast("Mapping[str, Any]", config.get("text_config") or {})}
    hidden, vocabulary = sizes.get("hidden_size", sizes.get("n_embd")), sizes.get("vocab_size")
    if not isinstance(hidden, int) or not isinstance(vocabulary, int):
        return None
    context = sizes.get("max_position_embeddings")
    return ModelFacts(
        model_type=str(config.get("model_type", "")),
        hidden_size=hidden,
        vocab_size=vocabulary,
        context_length=context if isinstance(context, int) else None,
    )
