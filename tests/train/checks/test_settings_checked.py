"""Lengths, vocabularies and learning rates that do not fit the model or the data are found."""

import pytest

from crucible.ports.model_facts import ModelFacts

LLAMA = ModelFacts(model_type="llama", hidden_size=2048, vocab_size=512)


def rows_of(*answers: str) -> list[dict]:
    return [
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": text}]} for text in answers
    ]


def test_rows_that_fit_lose_nothing(find) -> None:
    assert find("truncation").status == "pass"
    assert find("truncation", max_length=None).status == "pass"


def test_a_few_cut_rows_are_a_warning_with_the_share(find, clean) -> None:
    found = find("truncation", [*clean, *rows_of("word " * 300)], max_length=80)
    assert (found.status, found.where) == ("warn", "rows row 31")
    assert "of the trained tokens off, in 1 row" in found.sentence


def test_losing_most_of_the_answers_fails(find) -> None:
    found = find("truncation", rows_of(*["word " * 300] * 4), max_length=80)
    assert found.status == "fail"


def test_rows_cut_before_their_first_trained_token_fail(find) -> None:
    long = [{"messages": [{"role": "user", "content": "why " * 80}, {"role": "assistant", "content": "so"}]}]
    found = find("truncation", long, max_length=40)
    assert found.status == "fail" and "1 of them before their first trained token" in found.sentence


def test_one_long_row_in_hundreds_is_the_usual_tail(find, looked, clean) -> None:
    longest = max(len(row.examples[0].tokens) for row in looked(rows_of("word " * 20)).rows)
    assert find("truncation", [*clean * 6, *rows_of("word " * 20)], max_length=longest - 3).status == "pass"


def test_a_tokenizer_within_the_models_vocabulary_passes(find, tokenizers) -> None:
    padded = ModelFacts(model_type="llama", hidden_size=8, vocab_size=tokenizers["chatml"].vocab_size + 9)
    assert find("vocabulary", facts=padded).status == "pass"


def test_an_id_that_the_model_lacks_fails_with_its_row(find) -> None:
    found = find("vocabulary", facts=ModelFacts(model_type="llama", hidden_size=8, vocab_size=40))
    assert (found.status, found.where) == ("fail", "rows row 1")


@pytest.mark.parametrize("more", [-1, 5000])
def test_another_models_tokenizer_is_a_warning(find, tokenizers, more) -> None:
    other = ModelFacts(model_type="llama", hidden_size=8, vocab_size=tokenizers["chatml"].vocab_size + more)
    assert find("vocabulary", facts=other).status == "warn"


def test_a_backend_that_says_nothing_of_the_model_is_skipped(find) -> None:
    assert find("vocabulary").status == "skipped"


@pytest.mark.parametrize(
    ("rate", "status"), [(5e-4, "pass"), (1e-4, "pass"), (4e-3, "pass"), (1e-5, "warn"), (8e-3, "warn"), (0.2, "fail")]
)
def test_a_learning_rate_is_held_to_the_rule_of_its_family(find, rate, status) -> None:
    found = find("learning_rate", learning_rate=rate, facts=LLAMA)
    assert found.status == status and "the rule for this model gives 4.9e-04" in found.sentence


@pytest.mark.parametrize(("rate", "status"), [(2e-4, "pass"), (1e-7, "warn"), (0.1, "warn"), (1.0, "fail")])
def test_a_family_without_a_rule_has_a_broad_range(find, rate, status) -> None:
    other = ModelFacts(model_type="olmo2", hidden_size=2048, vocab_size=512)
    assert find("learning_rate", learning_rate=rate, facts=other).status == status


def test_no_rate_and_no_model_are_skipped_with_the_reason(find) -> None:
    assert find("learning_rate").sentence == "nothing is trained"
    assert find("learning_rate", learning_rate=1.0, computes=False).status == "skipped"
