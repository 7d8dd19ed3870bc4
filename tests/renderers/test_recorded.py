"""Does a recorded tokenizer say what the real one said, and nothing else?"""

import pytest
from recorded import RecordedTokenizer, packed, references_in
from references import Reference, Refusal

GOLDEN = {
    "bos_id": None,
    "eos_ids": [9],
    "vocab_size": 10,
    "special_tokens": {"<end>": 9},
    "encoded": {"a<end>": [1, 9]},
    "ordinary": {"a": [1], "<end>": [2, 3]},
}


def test_it_says_what_was_recorded() -> None:
    tokenizer = RecordedTokenizer(GOLDEN)
    assert tokenizer.encode("a<end>").ids == (1, 9)
    assert tokenizer.encode_ordinary(["a", "<end>"]) == [[1], [2, 3]]


def test_it_decodes_runs_that_were_recorded_between_special_tokens() -> None:
    tokenizer = RecordedTokenizer(GOLDEN)
    assert tokenizer.decode([2, 3, 9, 1]) == "<end><end>a"
    assert tokenizer.decode([2, 3, 9, 1], skip_special=True) == "<end>a"


def test_a_text_that_was_not_recorded_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"not recorded: 'b'"):
        RecordedTokenizer(GOLDEN).encode_ordinary(["b"])


def test_packed_references_are_the_same_again() -> None:
    references = {
        "refused": Reference(whole=Refusal(reason="no"), prompt=[5]),
        "first": Reference(whole=[1, 2, 3], prompt=[1, 2]),
        "second": Reference(whole=[1, 2, 4], prompt=Refusal(reason="neither")),
        "third": Reference(whole=[7], prompt=[1, 8]),
    }
    assert references_in({"references": packed(references)}) == references
