"""BOS stands at the start once, where the model has it."""

import pytest

from crucible.train.checks import CHECKS
from crucible.train.renderers import RenderedExample, Span
from crucible.train.renderers.role_colon import RoleColonRenderer
from crucible.train.renderers.template import TemplateRenderer


def shifted(kind, *, drop=0, add=()):
    """A plug-in renderer that takes tokens from the start of a row, or puts some before it."""

    class Shifted(kind):
        name = "shifted"

        def build_supervised_example(self, messages, *, train_on, tools=()):
            example = super().build_supervised_example(messages, train_on=train_on, tools=tools)
            by = len(add) - drop
            spans = [Span(message=s.message, start=s.start + by, end=s.end + by) for s in example.spans]
            return RenderedExample.from_spans([*add, *example.tokens.tolist()[drop:]], spans)

    return Shifted


@pytest.mark.parametrize("renderer", ["llama", "plain", "chatml"])
def test_bos_once_passes_also_where_it_marks_every_turn(find, renderer) -> None:
    assert find("bos", renderer=renderer).status == "pass"


def test_a_model_without_bos_is_skipped(find) -> None:
    assert find("bos", renderer="thinking").status == "skipped"


@pytest.mark.parametrize(("name", "kind"), [("llama", TemplateRenderer), ("plain", RoleColonRenderer)])
def test_bos_twice_fails(find, tokenizers, name, kind) -> None:
    bos = tokenizers[name].bos_id
    found = find("bos", renderer=shifted(kind, add=(bos,))(tokenizers[name]))
    assert (found.status, found.where) == ("fail", "rows row 1") and "BOS twice" in found.sentence


def test_a_template_that_writes_bos_twice_is_named_though_its_rows_are_refused(find, make_tokenizer) -> None:
    twice = "{{ '<|begin|><|begin|>' }}{% for m in messages %}{{ m['content'] + '<|eot|>' }}{% endfor %}"
    tokenizer = make_tokenizer(twice, eos=("<|eot|>",), bos="<|begin|>", words="llama")
    found = find("bos", renderer=TemplateRenderer(tokenizer))
    assert found.status == "fail" and "30 of 30 rows hold BOS twice" in found.sentence


@pytest.mark.parametrize(("name", "kind"), [("llama", TemplateRenderer), ("plain", RoleColonRenderer)])
def test_a_missing_bos_fails(find, tokenizers, name, kind) -> None:
    found = find("bos", renderer=shifted(kind, drop=1)(tokenizers[name]))
    assert found.status == "fail" and "without the model's BOS" in found.sentence


def test_without_a_conversation_there_is_nothing_to_see(looked) -> None:
    assert CHECKS["bos"](looked([{"messages": "?"}])).status == "skipped"
