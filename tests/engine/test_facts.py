"""A model's folder says what the model is, before any weight is read."""

import json
from pathlib import Path

import pytest

from crucible.engine.facts import model_facts
from crucible.errors import ModelError
from crucible.ports.model_facts import ModelFacts


def facts(folder: Path, **config: object) -> ModelFacts | None:
    (folder / "config.json").write_text(json.dumps(config))
    return model_facts(folder)


def test_family_and_sizes_are_read(tiny_model: Path) -> None:
    assert model_facts(tiny_model) == ModelFacts(model_type="llama", hidden_size=32, vocab_size=264, context_length=512)


def test_a_model_of_several_kinds_of_input_is_described_by_its_language_model(tmp_path: Path) -> None:
    inner = {"hidden_size": 8, "vocab_size": 9}
    found = facts(tmp_path, model_type="gemma3", text_config=inner)
    assert found == ModelFacts(model_type="gemma3", hidden_size=8, vocab_size=9)


def test_what_is_not_said_is_not_made_up(tmp_path: Path) -> None:
    assert facts(tmp_path, model_type="mystery", vocab_size=9) is None


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        model_facts(tmp_path)
