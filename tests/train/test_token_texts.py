"""Every token reads as its part of the text, and all of them together as the text."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crucible.adapters.tokenizer import HfTokenizer
from crucible.testing.fakes import FakeTokenizer
from crucible.train.token_texts import TokenReader, TokenText

READER = TokenReader(FakeTokenizer())


@given(st.text())
def test_the_texts_joined_are_the_text(text: str) -> None:
    ids = FakeTokenizer().encode_ordinary([text])[0]
    texts = READER.read(ids)
    assert len(texts) == len(ids) and "".join(read.text for read in texts) == text


@given(st.lists(st.integers(0, 258), max_size=30))
def test_any_ids_have_one_text_each_and_special_tokens_their_names(ids: list[int]) -> None:
    texts = READER.read(ids)
    assert [read.special for read in texts] == [token >= 256 for token in ids]
    assert "".join(read.text for read in texts) == FakeTokenizer().decode(ids)


def test_a_character_of_several_tokens_is_the_first_ones() -> None:
    assert READER.read([*"é".encode(), 256]) == [
        TokenText("é"),
        TokenText(""),
        TokenText("<|im_start|>", special=True),
    ]


def test_what_is_no_token_has_a_name_too() -> None:
    assert [read.text for read in READER.read([-1, 104, 9999])] == ["<|no text|>", "h", "<|9999|>"]
    assert [read.text for read in TokenReader(None).read([5, 6])] == ["<|5|>", "<|6|>"]


@given(st.text(max_size=40))
def test_a_real_tokenizers_texts_joined_are_the_text(tiny_model: Path, text: str) -> None:
    tokenizer = HfTokenizer.from_folder(tiny_model)
    ids = tokenizer.encode_ordinary([text])[0]
    assert "".join(read.text for read in TokenReader(tokenizer).read(ids)) == tokenizer.decode(ids)
