"""Is no problem in both splits, and does every run measure on the same ones?"""

import pytest
from asking import builders, names, request
from hypothesis import given
from hypothesis import strategies as st

from crucible.train.rl.environments.registry import load_environment
from crucible.train.rl.environments.splits import of_split, rows_of_split

ROWS = [{"question": f"What is {n}?", "answer": f"#### {n}"} for n in range(200)]
SPECS = {
    "arithmetic:max": {},
    "arithmetic:add": {"digits": 2},
    "arithmetic:parity": {},
    "letters:max_digit": {},
    "letters:reverse": {},
    "guess_number": {},
    "gsm8k": {"data": {"gsm8k": ROWS}},
}


@given(st.sets(st.text(), max_size=60), st.integers(1, 60))
def test_the_two_splits_of_any_problems_are_all_of_them_and_share_none(texts: set[str], limit: int) -> None:
    train, held_out = (of_split(texts, split, text=str) for split in ("train", "eval"))
    assert sorted(train + held_out) == sorted(texts)
    assert of_split(sorted(texts, reverse=True), "train", text=str, limit=limit) == train[:limit]
    assert sorted(rows_of_split(sorted(texts), "train", text=str)) == sorted(train)


@pytest.mark.parametrize("spec", SPECS)
def test_no_held_out_problem_is_trained_and_about_a_tenth_is_held_out(spec: str) -> None:
    train, held_out = (
        set(names(load_environment(spec, request(split=split, **SPECS[spec])))) for split in ("train", "eval")
    )
    assert train.isdisjoint(held_out)
    assert 0.03 < len(held_out) / len(train | held_out) < 0.25


@pytest.mark.parametrize("spec", SPECS)
def test_a_seed_changes_the_order_of_training_and_never_what_is_held_out(spec: str) -> None:
    first, second = (load_environment(spec, request(seed=seed, **SPECS[spec])) for seed in (1, 2))
    assert names(first) != names(second)
    held = [names(load_environment(spec, request(seed=seed, split="eval", **SPECS[spec]))) for seed in (1, 2)]
    assert held[0] == held[1]


@pytest.mark.parametrize("spec", SPECS)
def test_the_same_request_gives_the_same_problems_and_another_limit_other_ones(spec: str) -> None:
    once, again, fewer = (load_environment(spec, request(rows=rows, **SPECS[spec])) for rows in (None, None, 3))
    assert names(once) == names(again)
    assert once.fingerprint() == again.fingerprint() != fewer.fingerprint() != ""
    assert len(set(names(fewer))) == 3


@pytest.mark.parametrize("spec", SPECS)
def test_every_problem_is_tagged_with_its_environment(spec: str) -> None:
    tags = {builder.tags for builder in builders(load_environment(spec, request(**SPECS[spec])))}
    assert [tag.split("/")[0] for [tag] in tags] == [spec.split(":")[0]]


def test_too_few_letters_to_hold_any_out_are_measured_as_they_are_trained() -> None:
    train, held_out = (names(load_environment("letters:copy", request(split=split))) for split in ("train", "eval"))
    assert sorted(train) == sorted(held_out)
