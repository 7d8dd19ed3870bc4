"""Does a completion end exactly where its stop rule says?"""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.engine.decoding_stops import StopRule, StopWatch
from crucible.ports.sampling_client import SamplingParams
from crucible.testing.fakes import FakeTokenizer

TOKENIZER = FakeTokenizer()  # one token per byte: every text spans tokens


def length(tokens: Sequence[int], stop: object) -> int | None:
    """Tokens up to the stop; None if nothing stops them."""
    watch = StopWatch(StopRule.of(SamplingParams(stop=stop), TOKENIZER), TOKENIZER)
    return next((count for count, token in enumerate(tokens, 1) if watch.complete(token)), None)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two", None, None),
        ("one<|im_end|>two", None, 4),
        ("one<|endoftext|>two", None, 4),
        ("one<|im_end|>two", [], None),
        ("one<|im_end|>two", [ord("e")], 3),
        ("one two", "e t", 5),
        ("one two", ["zwei", "two", "one two three"], 7),
        ("one<|im_end|>two", "<|im_end|>", 4),
        ("größer", "ß", 6),
        ("a🙂b", ["🙂"], 5),
        ("ababac", "abac", 6),
    ],
)
def test_the_stop_is_seen_with_the_token_that_completes_it(text: str, stop: object, expected: int | None) -> None:
    assert length(TOKENIZER.encode(text).ids, stop) == expected


@given(text=st.text("abß🙂\ufffd"), stops=st.lists(st.text("abß🙂", min_size=1, max_size=3), min_size=1))
def test_the_decoded_tail_finds_what_the_whole_text_would(text: str, stops: list[str]) -> None:
    ids = TOKENIZER.encode(text).ids
    whole = (n for n in range(1, len(ids) + 1) if any(stop in TOKENIZER.decode(ids[:n]) for stop in stops))
    assert length(ids, stops) == next(whole, None)


def test_a_long_completion_is_not_decoded_again_and_again() -> None:
    watch = StopWatch(StopRule.of(SamplingParams(stop="never"), TOKENIZER), TOKENIZER)
    for _ in range(1000):
        assert not watch.complete(ord("a"))
    assert len(watch._tail) <= len("never") + 1


@pytest.mark.parametrize(("stop", "said"), [(["a", 1], "not both"), ("", "empty text"), (["a", ""], "empty text")])
def test_a_rule_that_makes_no_sense_is_refused(stop: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StopRule.of(SamplingParams(stop=stop), TOKENIZER)
