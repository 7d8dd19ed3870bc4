"""A sampled response becomes a message again, and says how it ended."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def parse(renderer, text):
    parsed = renderer.parse_response(renderer.tokenizer.encode(text).ids)
    return parsed.message["content"], parsed.ended


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("llama", "hello<|eot|>", ("hello", "stop")),
        ("llama", "hello<|endoftext|>", ("hello", "eos")),
        ("llama", "hello", ("hello", "length")),
        ("llama", "", ("", "length")),
        ("llama", "hello<|header|>user<|eot|>", ("hello<|header|>user", "malformed")),
        ("llama", "hello<|eot|><|eot|>", ("hello<|eot|>", "malformed")),
        ("base_chatml", "hello<|im_end|>", ("hello", "stop")),
        ("base_chatml", "hello<|endoftext|>", ("hello", "eos")),
        ("thinking", "<think>\n\n</think>\n\nhello<|im_end|>", ("hello", "stop")),
        ("thinking", "<think>\nwell\n</think>\n\nhello<|im_end|>", ("<think>\nwell\n</think>\n\nhello", "stop")),
        ("plain", " hello\n\nUser:", ("hello", "stop")),
        ("plain", " hello\n\n<|endoftext|>", ("hello", "eos")),
        ("plain", " hello", ("hello", "length")),
        ("plain", " hello\n\nUser: and", ("hello", "malformed")),
        ("plain", " hello\n\nUser:<|endoftext|>", ("hello", "malformed")),
        ("plain", " hello<|eot|> x\n\nUser:", ("hello<|eot|> x", "malformed")),
    ],
)
def test_the_ending_is_told_from_the_tokens(renderers, name, text, expected) -> None:
    assert parse(renderers[name], text) == expected


@pytest.mark.parametrize("name", ["chatml", "llama", "thinking", "no_stop", "plain"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_token_ids_make_it_raise(renderers, name, data) -> None:
    renderer = renderers[name]
    ids = data.draw(st.lists(st.integers(0, renderer.tokenizer.vocab_size + 9), max_size=12))
    assert renderer.parse_response(ids).message["role"] == "assistant"


@pytest.mark.parametrize("name", ["chatml", "plain"])
def test_an_id_that_the_tokenizer_lacks_is_malformed(renderers, name) -> None:
    tokenizer = renderers[name].tokenizer
    parsed = renderers[name].parse_response([*tokenizer.encode("hello").ids, tokenizer.vocab_size])
    assert (parsed.message["content"], parsed.ended) == ("hello", "malformed")


def test_the_stop_sequences_are_what_sampling_must_stop_at(renderers) -> None:
    names = {
        name: [renderers[name].tokenizer.token_text(token) for token in renderers[name].stop_sequences]
        for name in ("chatml", "llama", "base_chatml", "no_stop")
    }
    assert names == {
        "chatml": ["<|im_end|>"],
        "llama": ["<|eot|>", "<|endoftext|>"],
        "base_chatml": ["<|im_end|>", "<|endoftext|>"],
        "no_stop": ["<|endoftext|>"],
    }
    assert renderers["plain"].stop_sequences == ["\n\nUser:"]
