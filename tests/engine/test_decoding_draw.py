"""Is the drawn token distributed as its parameters say?"""

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from crucible.engine.decoding_draw import NextToken, check_params, generator
from crucible.ports.sampling_client import SamplingParams

PROBABILITIES = np.array([0.4, 0.05, 0.3, 0.05, 0.2])
LOGITS = np.log(PROBABILITIES).astype(np.float32)
DRAWS = 4000


def draw(
    logits: NDArray[np.float32], *, params: SamplingParams, rng: np.random.Generator, known: int
) -> tuple[int, float]:
    """A token and its logprob."""
    distribution = NextToken(logits)
    token = distribution.draw(params, rng=rng, known=known)
    return token, distribution.logprob(token)


def frequencies(**params: float) -> dict[int, float]:
    rng = generator(np.random.SeedSequence(0), 0)
    drawn = [draw(LOGITS, params=SamplingParams(**params), rng=rng, known=len(LOGITS))[0] for _ in range(DRAWS)]
    return {token: count / DRAWS for token, count in Counter(drawn).items()}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {0: 0.4, 1: 0.05, 2: 0.3, 3: 0.05, 4: 0.2}),
        ({"temperature": 0.5}, {0: 0.16, 1: 0.0025, 2: 0.09, 3: 0.0025, 4: 0.04}),
        ({"top_k": 2}, {0: 0.4, 2: 0.3}),
        ({"top_k": 4}, {0: 0.4, 2: 0.3, 4: 0.2, 1: 0.05}),
        ({"top_p": 0.7}, {0: 0.4, 2: 0.3}),
        ({"top_p": 0.71}, {0: 0.4, 2: 0.3, 4: 0.2}),
        ({"top_k": 3, "top_p": 0.5}, {0: 0.4, 2: 0.3}),
        ({"top_p": 1e-9}, {0: 1.0}),
        ({"temperature": 0.0}, {0: 1.0}),
        ({"temperature": 1e-300}, {0: 1.0}),
    ],
)
def test_tokens_are_drawn_in_proportion_among_the_allowed(params: dict[str, float], expected: dict[int, float]) -> None:
    seen = frequencies(**params)
    total = sum(expected.values())
    assert set(seen) == set(expected)
    # Four standard deviations of a binomial frequency; the seed is fixed, so this never wavers.
    for token, weight in expected.items():
        share = weight / total
        assert abs(seen[token] - share) <= 4 * math.sqrt(share * (1 - share) / DRAWS)


@pytest.mark.parametrize("params", [{}, {"temperature": 0.3}, {"top_k": 1}, {"top_p": 0.1}])
def test_the_logprob_is_that_of_the_untempered_full_softmax(params: dict[str, float]) -> None:
    rng = generator(np.random.SeedSequence(1), 0)
    token, logprob = draw(LOGITS + 7, params=SamplingParams(**params), rng=rng, known=len(LOGITS))
    assert logprob == pytest.approx(math.log(PROBABILITIES[token]), abs=1e-6)


def test_ids_that_no_tokenizer_knows_are_never_drawn() -> None:
    rng = generator(np.random.SeedSequence(2), 0)
    assert {draw(LOGITS, params=SamplingParams(), rng=rng, known=2)[0] for _ in range(200)} == {0, 1}
    token, logprob = draw(LOGITS[::-1], params=SamplingParams(temperature=0), rng=rng, known=2)
    assert (token, logprob) == (0, pytest.approx(math.log(0.2), abs=1e-6))


def test_a_tiny_temperature_finds_the_likeliest_below_one_that_no_tokenizer_knows() -> None:
    logits = np.array([1, 3, 2, 90], np.float32)
    rng = generator(np.random.SeedSequence(2), 0)
    assert draw(logits, params=SamplingParams(temperature=1e-3), rng=rng, known=3)[0] == 1


def test_the_likeliest_come_first_and_equals_by_id() -> None:
    assert [token for token, _ in NextToken(LOGITS).likeliest(4)] == [0, 2, 4, 1]
    assert NextToken(LOGITS).likeliest(1)[0][1] == pytest.approx(math.log(0.4), abs=1e-6)


def test_each_sample_has_its_own_stream_whatever_the_others_are() -> None:
    first = [generator(np.random.SeedSequence(3), index).random() for index in range(4)]
    assert first == [generator(np.random.SeedSequence(3), index).random() for index in range(4)]
    assert len(set(first)) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(ArithmeticError, match="diverged"):
        draw(np.array([0, bad], np.float32), params=SamplingParams(), rng=np.random.default_rng(0), known=2)


def test_every_parameter_out_of_range_is_named_at_once() -> None:
    wrong = SamplingParams(max_tokens=0, temperature=-1, top_k=0, top_p=0, seed=-1)
    with pytest.raises(ValueError, match=r"max_tokens.*temperature.*top_k.*top_p.*seed"):
        check_params(wrong)
    check_params(SamplingParams())
