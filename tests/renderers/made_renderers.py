"""A renderer of each family over a tokenizer that is trained here on a few lines, and conversations that it can write.

The tokenizer is a real byte-level BPE that joins line breaks as the families' own do, with the family's control tokens
and tags and without a chat template.
"""

import json
from functools import cache
from typing import Any

from corpus import WEATHER, Conversation, assistant, result, system, user
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from crucible.adapters.tokenizer import HfTokenizer
from crucible.adapters.tokenizer.files import TokenizerFiles
from crucible.train.messages import Message, calls_of, text_of, thinking_of
from crucible.train.renderers import registry
from crucible.train.renderers.family import FamilyRenderer

KINDS: dict[str, type[FamilyRenderer]] = {
    name: kind
    for name, kind in registry._BUILT_IN.items()
    if isinstance(kind, type) and issubclass(kind, FamilyRenderer) and name != "kimi_k2"
}
"""Every family that is written out, by name; but for `kimi_k2`, which refuses to be built without `_unverified`."""

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LINES = [
    "user assistant system tool model The quick brown fox jumps over the lazy dog.\n\n<function=f>\n</function>\n",
    '{"name": "f", "arguments": {"a": 1, "parameters": [true, null]}}\n\n\nanalysis commentary final to=functions.f',
] * 4


@cache
def made_renderer(name: str) -> FamilyRenderer:
    """The family's renderer."""
    kind = KINDS[name]
    return kind(made_tokenizer(kind.controls, tuple(tag for tag in kind.tags if tag not in kind.controls)))


@cache
def made_tokenizer(controls: tuple[str, ...], tags: tuple[str, ...], template: str | None = None) -> HfTokenizer:
    """A tokenizer with these special tokens, the first of which is EOS, and these tokens that are not special."""
    fast = FastTokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=450, special_tokens=list(controls), initial_alphabet=alphabet, show_progress=False
    )
    fast.train_from_iterator(_LINES, trainer)
    fast.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in tags])
    files = TokenizerFiles(
        tokenizer_json=fast.to_str(),
        named_tokens={"eos_token": controls[0]},
        added_tokens=(),
        templates={} if template is None else {"default": template},
        eos_ids=frozenset(),
    )
    return HfTokenizer(files, name="made")


def read(name: str, text: str) -> tuple[str, str, list[tuple[str, object]], str]:
    """(reasoning, content, calls, how it ended) of a response of this text, read by the family."""
    renderer = made_renderer(name)
    parsed = renderer.parse_response(renderer.tokenizer.encode(text).ids)
    calls = [(made.name, made.object) for made in calls_of(parsed.message)]
    return thinking_of(parsed.message), text_of(parsed.message), calls, parsed.ended


SHORT = st.text(alphabet="ab zé\n漢🙂.:#{}\"'<>[]|0", max_size=12).map(str.strip)
"""Texts without white space at their ends, which some families trim, and without a tag."""

_words = st.from_regex(r"[a-z]{2,6}", fullmatch=True).filter(lambda word: word not in ("null", "true", "false"))
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | _words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_words, inner, max_size=2),
    max_leaves=4,
)


REASONS_ALOUD = ("gpt_oss", "gpt_oss_low", "gpt_oss_high")
"""Families in which what is said beside a call counts as reasoning, unless there is some."""


def texts(renderer: FamilyRenderer) -> st.SearchStrategy[str]:
    """Texts, some of which hold a special token's."""
    forged = st.sampled_from(sorted(renderer.tokenizer.special_tokens))
    return SHORT | st.tuples(SHORT, forged, SHORT).map("".join)


@st.composite
def conversations(draw: st.DrawFn, name: str) -> Conversation:
    """Conversations of one to three questions with all that the family says it has a place for, each ending with an
    answer. Some of them it refuses nevertheless."""
    renderer = made_renderer(name)
    said = texts(renderer)
    messages: list[Message] = []
    if "system" in renderer.roles and draw(st.booleans()):
        messages.append(system(draw(said)))
    tools = (WEATHER,) if renderer.writes_tools and draw(st.booleans()) else ()
    steps = st.integers(0, 2) if renderer.writes_calls and draw(st.booleans()) else st.just(0)
    several, aloud, reasons = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())

    def thinking() -> str | None:
        return draw(SHORT.filter(bool) | st.none()) if renderer.writes_thinking and reasons else None

    for _ in range(draw(st.integers(1, 3))):
        messages.append(user(draw(said)))
        for _ in range(draw(steps)):
            calls = [_call(draw, len(messages), place) for place in range(draw(st.integers(1, 2)) if several else 1)]
            thought = thinking()
            silent = not aloud or (name in REASONS_ALOUD and not thought)
            messages.append(assistant("" if silent else draw(said), *calls, thinking=thought))
            messages += [result(draw(said), call["id"], call["function"]["name"]) for call in calls]
        messages.append(assistant(draw(said), thinking=thinking()))
    return Conversation(messages=tuple(messages), tools=tools)


def _call(draw: st.DrawFn, index: int, place: int) -> dict[str, Any]:
    arguments = draw(st.dictionaries(_words, _values, max_size=2))
    given = json.dumps(arguments, ensure_ascii=False) if draw(st.booleans()) else arguments
    return {
        "type": "function",
        "id": f"call{index:03}{place:02}",
        "function": {"name": draw(_words), "arguments": given},
    }
