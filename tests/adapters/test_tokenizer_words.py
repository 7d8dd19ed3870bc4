"""Does tokenising word by word give what the tokenizers library gives?"""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, trainers

from crucible.adapters.tokenizer.words import WordEncoder

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def trained(pattern: str, **token: bool) -> tokenizers.Tokenizer:
    """A small byte-level BPE tokenizer that cuts words so; its one added token is `<think>`."""
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the theme of this thing, 12 or 123; it's what they'll see\n\n  x = y\n"] * 9, trainer)
    made.add_tokens([tokenizers.AddedToken("<think>", normalized=False, **token)])
    return made


def encoder(backend: tokenizers.Tokenizer) -> WordEncoder | None:
    return WordEncoder.of(backend.to_str(), backend)


BACKENDS = [trained(pattern) for pattern in (QWEN, O200K)]
TEXTS = st.lists(
    st.one_of(st.text(st.characters(max_codepoint=127)), st.sampled_from(["<think>", "'ll", " the", "\n"]))
)


@given(parts=TEXTS)
@pytest.mark.parametrize("backend", BACKENDS, ids=["qwen", "o200k"])
def test_any_ascii_text_has_the_ids_that_the_library_gives(backend: tokenizers.Tokenizer, parts: list[str]) -> None:
    words, text = encoder(backend), "".join(parts)
    assert words is not None
    assert words.encode(text) == backend.encode(text, add_special_tokens=False).ids


def test_what_is_not_ascii_is_left_to_the_library() -> None:
    words = encoder(BACKENDS[0])
    assert words is not None
    assert words.encode("na\u00efve") is None


def test_a_tokenizer_that_cuts_otherwise_is_left_alone() -> None:
    made = trained(QWEN)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert encoder(made) is None


def test_a_tokenizer_with_a_token_that_takes_white_space_along_is_left_alone() -> None:
    assert encoder(trained(QWEN, lstrip=True)) is None


def test_an_unknown_class_of_characters_is_left_alone() -> None:
    assert encoder(trained(r"\p{Han}+|" + QWEN)) is None
