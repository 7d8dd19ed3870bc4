"""Do the renderers write, token for token, what the models' own chat templates write?

Fast tier: against recorded references, on recorded tokenizers. Slow tier: against transformers, on the real ones.
"""

from dataclasses import dataclass
from functools import lru_cache

import pytest
from cases import CASES, NO_TEMPLATE, Case
from comparing import Difference, differences, tokens_of
from corpus import CORPUS, SPECIAL_TEXTS, Conversation
from differing import DIFFERENCES
from families import family_folder, needs_npm
from record_golden import case_references, record
from recorded import RecordedTokenizer, read_golden, references_in
from references import MUTATES, Refusal, as_fed

from crucible.adapters.tokenizer import HfTokenizer
from crucible.errors import RendererError
from crucible.ports.tokenizer import Tokenizer
from crucible.train.renderers import get_renderer
from crucible.train.renderers.family import FamilyRenderer
from crucible.train.renderers.registry import _BUILT_IN


def real_files(family: str) -> list[pytest.MarkDecorator]:
    """The marks of a test that fetches a family's files."""
    return [pytest.mark.slow, pytest.mark.npm] if needs_npm(family) else [pytest.mark.slow]


ON_REAL_FILES = [pytest.param(name, marks=real_files(case.family)) for name, case in CASES.items()]

INFERRED = {
    **{case.family: case.family for case in CASES.values()},
    "mistral_nemo": "mistral_v3",
    "mistral": "mistral_v11",
    "kimi_k2": "template",
}
"""The renderer that a family's own tokenizer and template lead to."""

WHOLE_CORPUS = [name for name, case in CASES.items() if case.conversations == tuple(CORPUS)]


@dataclass(frozen=True, kw_only=True)
class Real:
    """A renderer's name, and the real tokenizer that it is tested on."""

    name: str
    tokenizer: Tokenizer


@lru_cache(maxsize=1)
def real_tokenizer(family: str) -> Tokenizer:
    """A family's own, read once for all its renderers."""
    return HfTokenizer.from_folder(family_folder(family))


def found(name: str, tokenizer: Tokenizer) -> list[Difference]:
    """Where a renderer differs from the recorded references."""
    return differences(get_renderer(name, tokenizer), CASES[name], references_in(read_golden(name)))


def kinds(differences: list[Difference]) -> dict[str, bool]:
    """Each differing conversation, and whether it differs by a refusal."""
    return {
        difference.conversation: isinstance(difference.ours, Refusal) or isinstance(difference.theirs, Refusal)
        for difference in differences
    }


def listed(name: str) -> dict[str, bool]:
    """As `kinds`, of the differences that have a reason."""
    return {conversation: reason.kind == "refused" for conversation, reason in DIFFERENCES.get(name, {}).items()}


def text_of(tokens: list[int] | Refusal, tokenizer: Tokenizer) -> str:
    assert not isinstance(tokens, Refusal), tokens.reason
    return tokenizer.decode(tokens)


def calls_in(conversation: Conversation) -> bool:
    return any("tool_calls" in message for message in conversation.messages)


def tokens_or_none(tokens: list[int] | Refusal) -> list[int] | None:
    return None if isinstance(tokens, Refusal) else tokens


def by_our_template(tokenizer: Tokenizer, case: Case, conversation: Conversation) -> list[int] | None:
    """What our own template runner makes of a whole conversation; None where the template refuses."""
    messages = as_fed(case.family, conversation.messages)
    try:
        text = tokenizer.apply_chat_template(messages, tools=conversation.tools or None, **case.variables)
    except RendererError:
        return None
    return list(tokenizer.encode(text).ids)


def controls(renderer: FamilyRenderer, conversation: str) -> list[int]:
    """The control tokens of a conversation, in order."""
    tokens, _ = tokens_of(renderer, CORPUS[conversation])
    assert not isinstance(tokens, Refusal), tokens.reason
    return [token for token in tokens if token in renderer.special_ids | set(renderer.ids.values())]


@pytest.mark.parametrize("name", CASES)
def test_tokens_are_those_of_the_models_own_template_but_where_a_reason_is_listed(name: str) -> None:
    assert kinds(found(name, RecordedTokenizer(read_golden(name)))) == listed(name)


@pytest.mark.parametrize("conversation", SPECIAL_TEXTS)
@pytest.mark.parametrize("name", WHOLE_CORPUS)
def test_no_special_tokens_text_in_a_message_becomes_one(name: str, conversation: str) -> None:
    renderer = get_renderer(name, RecordedTokenizer(read_golden(name)))
    assert isinstance(renderer, FamilyRenderer)
    assert controls(renderer, conversation) == controls(renderer, "single_turn")


@pytest.fixture(scope="module", params=ON_REAL_FILES)
def real(request: pytest.FixtureRequest) -> Real:
    name: str = request.param
    return Real(name=name, tokenizer=real_tokenizer(CASES[name].family))


def test_the_tokens_are_so_on_the_real_tokenizer(real: Real) -> None:
    assert kinds(found(real.name, real.tokenizer)) == listed(real.name)


def test_where_only_the_cut_into_tokens_differs_the_text_is_the_same(real: Real) -> None:
    reasons = DIFFERENCES.get(real.name, {})
    cut = [one for one in found(real.name, real.tokenizer) if reasons[one.conversation].kind == "cut"]
    assert [text_of(one.ours, real.tokenizer) for one in cut] == [text_of(one.theirs, real.tokenizer) for one in cut]


def test_the_recorded_references_are_what_transformers_makes_of_the_packaged_files(real: Real) -> None:
    assert record(real.name, real.tokenizer, case_references(CASES[real.name])) == read_golden(real.name)


def test_templates_are_run_as_transformers_runs_them(real: Real) -> None:
    case, references = CASES[real.name], references_in(read_golden(real.name))
    run = [name for name in references if case.family not in MUTATES or not calls_in(CORPUS[name])]
    ours = {name: by_our_template(real.tokenizer, case, CORPUS[name]) for name in run}
    assert ours == {name: tokens_or_none(references[name].whole) for name in run}


def test_auto_takes_the_family_of_each_packaged_model(real: Real) -> None:
    assert get_renderer("auto", real.tokenizer).name == INFERRED[CASES[real.name].family]


def test_every_built_in_renderer_is_compared_or_named_as_one_that_cannot_be() -> None:
    assert set(CASES) | NO_TEMPLATE == set(_BUILT_IN)


def test_every_listed_difference_is_of_a_case_that_has_the_conversation() -> None:
    listed = {(name, conversation) for name, reasons in DIFFERENCES.items() for conversation in reasons}
    assert listed <= {(name, conversation) for name, case in CASES.items() for conversation in case.conversations}


def test_every_conversation_is_written_as_the_template_does_by_some_renderer() -> None:
    assert [name for name in CORPUS if all(name in DIFFERENCES.get(renderer, {}) for renderer in CASES)] == []
