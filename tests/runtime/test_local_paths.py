"""What a config names on this machine is named from the root, so that it means the same in every folder."""

import json
from pathlib import Path

import pytest

from crucible.cookbook import CHAT_SL, SL_BASIC
from crucible.kitchen.config import Configured, Layer
from crucible.kitchen.recipe import Recipe
from crucible.runtime.local_paths import anchored


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, data and a file named like a known data set."""
    folder = tmp_path.resolve() / "work"
    (folder / "models" / "tiny").mkdir(parents=True)
    for name in ("rows.jsonl", "gsm8k"):
        (folder / name).write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def configured(recipe: Recipe = SL_BASIC, **values: object) -> Configured:
    return anchored(recipe.configure(Layer(origin="test", values=values)))


def test_a_local_model_and_data_set_become_absolute(here: Path) -> None:
    built = configured(model="models/tiny", dataset="./models/../rows.jsonl")
    assert (built.value.model, built.value.dataset) == (str(here / "models/tiny"), str(here / "rows.jsonl"))
    assert built.origins["model"] == "test"
    assert configured(model="~/models/tiny").value.model == str(here / "models/tiny")
    assert configured(CHAT_SL, eval_dataset="rows.jsonl").value.eval_dataset == str(here / "rows.jsonl")


def test_a_name_stays_a_name(here: Path) -> None:
    assert (here / "gsm8k").exists()
    for dataset in ("gsm8k", "org/rows", "missing.jsonl", "a\0b", "~nobody/x"):
        assert configured(dataset=dataset).value.dataset == dataset
    assert configured(CHAT_SL).value.eval_dataset == ""


def test_a_link_keeps_its_name_which_tells_its_kind(here: Path) -> None:
    (here / "blob").write_text("")
    (here / "linked.jsonl").symlink_to("blob")
    assert configured(dataset="linked.jsonl").value.dataset == str(here / "linked.jsonl")


def test_what_is_no_reference_stays_whatever_lies_there(here: Path) -> None:
    (here / "template").write_text("")
    assert configured(renderer="template").value.renderer == "template"


def test_an_anchored_config_is_the_same_in_every_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = configured(model="models/tiny", dataset="rows.jsonl")
    monkeypatch.chdir("/")
    again = anchored(SL_BASIC.configure(Layer(origin="config.json", values=json.loads(json.dumps(first.to_json())))))
    assert again.value == first.value
