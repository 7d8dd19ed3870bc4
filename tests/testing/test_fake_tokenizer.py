"""What the fake tokenizer promises beyond its port."""

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crucible.errors import RendererError
from crucible.testing.fakes import FakeTokenizer, FakeTokenizerStore

TOKENIZER = FakeTokenizer()
TEXT = st.text(st.characters(codec="utf-8"))
PARTS = st.lists(TEXT | st.sampled_from([*TOKENIZER.special_tokens, "<|im_", "start|>"])).map("".join)


@settings(deadline=None)
@given(PARTS)
def test_decoding_what_was_encoded_gives_it_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text


@settings(deadline=None)
@given(PARTS)
def test_offsets_cut_the_text_where_the_tokens_do(text):
    encoding = TOKENIZER.encode(text)
    for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        piece = text[start:end]
        assert TOKENIZER.special_tokens[piece] == token if token >= 256 else token in piece.encode()


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), TEXT)), st.booleans())
def test_the_jinja_template_writes_what_apply_chat_template_writes(turns, add_generation_prompt):
    messages = [{"role": role, "content": content} for role, content in turns]
    template = jinja2.Environment(keep_trailing_newline=True).from_string(TOKENIZER.chat_template)
    expected = template.render(messages=messages, add_generation_prompt=add_generation_prompt)
    assert TOKENIZER.apply_chat_template(messages, add_generation_prompt=add_generation_prompt) == expected


@pytest.mark.parametrize("message", [{}, {"role": "user"}, {"content": "hi"}, {"role": "user", "content": None}])
def test_a_message_without_role_or_content_is_named(message):
    with pytest.raises(RendererError, match="message 2"):
        TOKENIZER.apply_chat_template([{"role": "user", "content": "hi"}, message])


def test_tools_are_refused():
    with pytest.raises(RendererError, match="tools"):
        TOKENIZER.apply_chat_template([], tools=[{"name": "search"}])


def test_a_token_is_shown_as_a_person_would_read_it():
    assert [TOKENIZER.token_text(token) for token in (65, 10, 0, 200, 257)] == [
        "A",
        r"\n",
        r"\x00",
        "\ufffd",
        "<|im_end|>",
    ]


def test_the_store_is_a_noop_adapter():
    assert (FakeTokenizerStore.adapter_name, FakeTokenizerStore.is_noop) == ("noop", True)
