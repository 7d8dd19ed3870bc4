"""A name or a model finds its renderer; an unknown one is told what was meant."""

import pytest

from crucible.errors import RendererError
from crucible.train.renderers import get_renderer

PLUGIN = """
from crucible.train.renderers.role_colon import RoleColonRenderer

class Shouting(RoleColonRenderer):
    name = "shouting"

def wrong(tokenizer):
    return "no renderer"
"""
ENTRY_POINTS = "[crucible.renderers]\nshouting = {0}:Shouting\nwrong = {0}:wrong\nbroken = {0}:missing\n"


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> None:
    """A distribution with renderers, installed for as long as the test."""
    (tmp_path / "renderer_plugin_for_tests.py").write_text(PLUGIN)
    info = tmp_path / "renderer_plugin_for_tests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: renderer-plugin-for-tests\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS.format("renderer_plugin_for_tests"))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("model", ["auto", "smollm2-135m", "org/model", "./models/tiny", "model.gguf"])
def test_a_model_gets_its_template_or_else_role_colon(tokenizers, model) -> None:
    assert get_renderer(model, tokenizers["chatml"]).name == "template"
    assert get_renderer(model, tokenizers["plain"]).name == "role_colon"


def test_a_model_with_a_template_can_still_be_given_role_colon(tokenizers) -> None:
    assert get_renderer("role_colon", tokenizers["chatml"]).name == "role_colon"


def test_an_unknown_name_says_what_was_meant(tokenizers) -> None:
    with pytest.raises(RendererError, match=r"(?i)did you mean role_colon"):
        get_renderer("rolecolon", tokenizers["chatml"])


def test_an_installed_plugin_adds_a_renderer(plugin, tokenizers) -> None:
    assert get_renderer("shouting", tokenizers["plain"]).name == "shouting"


@pytest.mark.parametrize(("name", "message"), [("broken", "cannot be loaded"), ("wrong", "does not give a Renderer")])
def test_a_broken_plugin_is_named(plugin, tokenizers, name, message) -> None:
    with pytest.raises(RendererError, match=message):
        get_renderer(name, tokenizers["plain"])
