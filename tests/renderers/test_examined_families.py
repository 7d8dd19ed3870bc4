"""The doctor raises no false alarm over a model family's renderer, on the real tokenizer and template (slow tier)."""

from collections.abc import Iterable

import pytest
from corpus import CORPUS, Conversation
from families import FAMILIES, family_folder, needs_npm

from crucible.adapters.tokenizer import HfTokenizer
from crucible.ports.dataset_store import RowSet
from crucible.train.checks import Finding, examine, look
from crucible.train.checks.template_parity import MEANT
from crucible.train.data import RowRenderer
from crucible.train.renderers import TrainOn, get_renderer

PLAIN = ("single_turn", "multi_turn", "two_users", "unicode", "code", "long_line", "numbers")
ABOUT_RENDERING = ("trained", "end_of_turn", "bos", "template", "round_trip")


def real_files(family: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow, pytest.mark.npm] if needs_npm(family) else [pytest.mark.slow]


ON_REAL_FILES = [pytest.param(name, marks=real_files(name)) for name in (*FAMILIES, "smollm2")]


def examined(family: str, conversations: Iterable[Conversation]) -> dict[str, Finding]:
    tokenizer = HfTokenizer.from_folder(family_folder(family))
    rendering = RowRenderer(
        renderer=get_renderer("auto", tokenizer),
        train_on=TrainOn.ALL_ASSISTANT_MESSAGES,
        row_format="messages",
        max_length=None,
        reduction="mean",
    )
    rows = RowSet([{"messages": list(each.messages), "tools": list(each.tools)} for each in conversations], name="rows")
    seen = look(rows, heldout=RowSet([], name="none"), rendering=rendering, first=200, told_apart=0)
    return {finding.check: finding for finding in examine(seen, only=ABOUT_RENDERING)}


@pytest.mark.parametrize("family", ON_REAL_FILES)
def test_plain_conversations_raise_no_alarm(family: str) -> None:
    found = examined(family, (CORPUS[name] for name in PLAIN))
    assert [str(finding) for finding in found.values() if finding.status in ("warn", "fail")] == []
    assert found["template"].status == found["end_of_turn"].status == found["round_trip"].status == "pass"


@pytest.mark.parametrize("family", ON_REAL_FILES)
def test_no_conversation_of_the_corpus_stops_a_run(family: str) -> None:
    found = examined(family, CORPUS.values())
    assert [str(finding) for finding in found.values() if finding.status == "fail"] == []


@pytest.mark.parametrize(("family", "renderer"), [pytest.param("mistral_nemo", "mistral_v3", marks=pytest.mark.slow)])
def test_a_difference_that_is_meant_is_a_warning_with_the_reason(family: str, renderer: str) -> None:
    found = examined(family, [CORPUS["system"]])["template"]
    assert found.status == "warn" and MEANT[renderer] in found.sentence
