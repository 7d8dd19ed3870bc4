"""Does every form of model reference lead to a folder, or else to a sentence that says why not?"""

import sys
from pathlib import Path

import pytest

from crucible.adapters.assets import resolve_model
from crucible.errors import MissingExtraError, ModelError, PortError
from crucible.testing.fakes import FakeHubClient


class UnreachableHub(FakeHubClient):
    """A hub behind a broken network."""

    def snapshot(self, *_: object, **__: object) -> Path:
        raise PortError("timed out", port="hub_client", adapter="noop", retryable=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin"):
        (folder / name).write_text("{}")
    return folder


def test_a_local_folder_is_itself(model: Path) -> None:
    assert resolve_model(str(model)) == model


def test_a_hub_id_is_asked_of_the_hub_without_other_frameworks_weights(model: Path) -> None:
    hub = FakeHubClient()
    hub.upload("org/tiny", model)
    whole, tokenizer_only = resolve_model("org/tiny", hub=hub), resolve_model("org/tiny", hub=hub, weights=False)
    assert {path.name for path in whole.iterdir()} == {"config.json", "model.safetensors"}
    assert {path.name for path in tokenizer_only.iterdir()} == {"config.json"}


def test_a_hub_without_the_model_is_the_references_fault_and_a_broken_network_is_not() -> None:
    with pytest.raises(ModelError, match="no such model to give: there is no model org/other"):
        resolve_model("org/other", hub=FakeHubClient())
    with pytest.raises(PortError, match="timed out"):
        resolve_model("org/other", hub=UnreachableHub())


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("smollm2-135", "did you mean smollm2-135m"),
        ("gsm8k", "packaged name, a GGUF file, a local folder with config.json, or a hub id"),
        ("./missing/model", "no such model"),
        ("missing/model.gguf", "no such model"),
        ("org/name", "no hub to ask"),
        ("", "holds no config.json"),
        ("notes.txt", "not a GGUF model"),
        ("empty", "holds no config.json"),
        ("cut.gguf", "truncated or damaged"),
    ],
)
def test_what_is_no_model_is_a_model_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(ModelError, match=said):
        resolve_model(reference, home=tmp_path / "home")


def test_gguf_without_the_engines_packages_gets_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"'gguf', which is not installed.*crucible-kitchen\[torch\]"):
        resolve_model(str(tmp_path / "tiny.gguf"), home=tmp_path)


@pytest.mark.slow
def test_the_packaged_model_is_converted_once_and_loads_as_it_stands() -> None:
    folder = resolve_model("smollm2-135m")
    assert resolve_model("smollm2-135m") == folder
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        path.name for path in folder.iterdir()
    }
