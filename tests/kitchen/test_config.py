"""A config is built from layers, and every mistake is found at once."""

from pathlib import Path

import chz
import pytest
from chz.validators import ge
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import ConfigError, Problem
from crucible.kitchen.config import Layer, build_config, config_fields, config_from_json, config_to_json


@chz.chz(typecheck=True)
class Small:
    """A config for these tests."""

    model: str = chz.field(default="m", doc="the model")
    epochs: int = chz.field(default=1, validator=ge(1), doc="passes")
    learning_rate: float = 1e-3
    max_steps: int | None = None


def text(**values: str) -> Layer:
    return Layer(origin="command line", values=values, text=True)


def test_later_layers_win_and_every_value_knows_its_origin() -> None:
    layers = [Layer(origin="file", values={"epochs": 2, "model": "f"}), text(epochs="3")]
    built = build_config(Small, layers, presets={"p": {"model": "x"}}, preset="p")
    assert (built.value.epochs, built.value.model) == (3, "f")
    assert built.origins == {
        "model": "file",
        "epochs": "command line",
        "learning_rate": "default",
        "max_steps": "default",
    }


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(Small, [text(epocs="3", epochs="0", learning_rate="fast", modle="x")])
    said = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "Did you mean epochs?" in said and "Did you mean model?" in said
    assert "must be greater or equal to 1" in said and "is not a value of type float" in said


def test_text_is_read_as_the_fields_type() -> None:
    built = build_config(Small, [text(max_steps="7", learning_rate="2e-4")])
    assert (built.value.max_steps, built.value.learning_rate) == (7, 2e-4)
    assert build_config(Small, [text(max_steps="None")]).value.max_steps is None


def test_old_spellings_are_accepted_with_a_note() -> None:
    built = build_config(Small, [text(num_epochs="4")])
    assert built.value.epochs == 4 and "num_epochs is the old name of epochs" in built.notes[0]


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean laptop"):
        build_config(Small, [text(preset="labtop")], presets={"laptop": {}})


def test_a_value_never_names_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="is not a value of type"):
        build_config(Small, [text(epochs="trap:anything")])
    assert build_config(Small, [text(model="trap:anything")]).value.model == "trap:anything"


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_preset_is_refused_and_never_the_default_in_disguise(value: object) -> None:
    with pytest.raises(ConfigError, match=r"preset: (is empty|there is no preset 'None')"):
        build_config(Small, [Layer(origin="file", values={"preset": value})], presets={"p": {}}, preset="p")


@pytest.mark.parametrize("key", ["epochs", "max_steps", "learning_rate"])
def test_a_truth_value_is_no_number(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: is not a value of type"):
        build_config(Small, [Layer(origin="config.toml", values={key: True})])


@pytest.mark.parametrize("key", ["epochs", "max_steps"])
def test_a_whole_number_beyond_64_bits_is_reported_by_its_key(key: str) -> None:
    assert build_config(Small, [text(**{key: str(2**63 - 1)})]).value
    for layer in (text(**{key: str(2**63)}), Layer(origin="file", values={key: 2**63})):
        with pytest.raises(ConfigError, match=rf"{key}: is a whole number beyond 64 bits"):
            build_config(Small, [layer])


def test_problems_over_several_keys_join_the_others() -> None:
    with pytest.raises(ConfigError, match="too many"):
        build_config(Small, [text(epochs="9")], validate=lambda _: [Problem(what="too many", where="epochs")])


def test_fields_carry_their_help() -> None:
    assert config_fields(Small)["model"].help == "the model"


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_any_words_give_a_config_or_a_config_error(values: dict[str, str]) -> None:
    try:
        build_config(Small, [Layer(origin="fuzz", values=values, text=True)])
    except ConfigError as error:
        assert error.problems


@given(
    st.builds(
        Small,
        model=st.text(max_size=10),
        epochs=st.integers(1, 100),
        learning_rate=st.floats(1e-9, 1),
        max_steps=st.none() | st.integers(1, 10),
    )
)
def test_json_and_back_is_the_same_config(config: Small) -> None:
    assert config_from_json(Small, config_to_json(config)) == config
