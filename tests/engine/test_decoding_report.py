"""Is what a request reports of its prompt and its tokens what the model's full logits say?"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from completions import LONG_PROMPT, TOKENIZER, answers, decoder, loaded_model, plain_logprobs, request

from crucible.engine.decoding import SlotDecoder
from crucible.ports.datum import TensorData
from crucible.ports.sampling_client import SampleReport

ROWS = len(LONG_PROMPT) - 1


@pytest.fixture(scope="module")
def llama_decoder(model_folder: Callable[[str], Path]) -> SlotDecoder:
    torch.set_num_threads(1)
    return decoder(loaded_model(model_folder("llama")), slots=4)


@pytest.fixture(scope="module")
def prompt_rows(model_folder: Callable[[str], Path]) -> torch.Tensor:
    """(L - 1, V): row i speaks of prompt token i + 1."""
    return plain_logprobs(tiny_models.plain_model(model_folder("llama")), LONG_PROMPT)[:-1]


def top(row: torch.Tensor, count: int) -> list[int]:
    return row.sort(descending=True, stable=True).indices[:count].tolist()


def test_the_likeliest_prompt_tokens_are_the_full_softmaxs(
    llama_decoder: SlotDecoder, prompt_rows: torch.Tensor
) -> None:
    (response,) = answers(llama_decoder, request(LONG_PROMPT, report=SampleReport(topk_prompt_logprobs=4)))
    assert response.prompt_logprobs is None
    first, *rest = response.topk_prompt_logprobs
    assert first is None and len(rest) == ROWS
    for found, row in zip(rest, prompt_rows, strict=True):
        assert [token for token, _ in found] == top(row, 4)
        assert [logprob for _, logprob in found] == pytest.approx(row[top(row, 4)].tolist(), abs=1e-4)


def test_the_likeliest_sampled_tokens_are_the_full_softmaxs(llama: Path, llama_decoder: SlotDecoder) -> None:
    asked = request(LONG_PROMPT, temperature=0.3, top_k=2, report=SampleReport(topk_sample_logprobs=3))
    sequence = answers(llama_decoder, asked)[0].sequences[0]
    rows = plain_logprobs(tiny_models.plain_model(llama), [*LONG_PROMPT, *sequence.tokens])[ROWS:-1]
    for found, row in zip(sequence.topk_logprobs, rows, strict=True):
        assert [token for token, _ in found] == top(row, 3)
        assert [logprob for _, logprob in found] == pytest.approx(row[top(row, 3)].tolist(), abs=1e-4)


def test_the_targets_asked_for_are_scored(llama_decoder: SlotDecoder, prompt_rows: torch.Tensor) -> None:
    ids = np.random.default_rng(0).integers(-1, 272, (ROWS, 5))
    (response,) = answers(
        llama_decoder, request(LONG_PROMPT, report=SampleReport(target_prompt_logprobs=TensorData(ids)))
    )
    expected = np.where(ids < 0, 0, np.take_along_axis(prompt_rows.numpy(), np.maximum(ids, 0), 1))
    assert response.target_prompt_logprobs.dtype == "float32"
    np.testing.assert_allclose(response.target_prompt_logprobs.data, expected, atol=1e-4)


def test_only_the_last_n_are_scored(llama_decoder: SlotDecoder) -> None:
    report = SampleReport(topk_prompt_logprobs=2)
    whole, last = answers(
        llama_decoder,
        request(LONG_PROMPT, prompt_logprobs=True, report=report),
        request(
            LONG_PROMPT, prompt_logprobs=True, report=SampleReport(topk_prompt_logprobs=2, prompt_logprobs_last_n=3)
        ),
    )
    assert last.prompt_logprobs == (None,) * (len(LONG_PROMPT) - 3) + whole.prompt_logprobs[-3:]
    assert last.topk_prompt_logprobs == (None,) * (len(LONG_PROMPT) - 3) + whole.topk_prompt_logprobs[-3:]


def test_alternatives_are_drawn_at_the_requests_temperature_from_the_whole_softmax(
    llama_decoder: SlotDecoder, prompt_rows: torch.Tensor
) -> None:
    report = SampleReport(prompt_alt_tokens_k=400)
    (response,) = answers(llama_decoder, request(LONG_PROMPT, temperature=0.5, top_k=1, report=report))
    tokens, logprobs = response.prompt_alt_tokens.data, response.prompt_alt_logprobs.data
    assert tokens.shape == logprobs.shape == (ROWS, 400) and tokens.dtype == np.int64
    np.testing.assert_allclose(logprobs, np.take_along_axis(prompt_rows.numpy(), tokens, 1), atol=1e-4)
    tempered = (prompt_rows[:, : TOKENIZER.vocab_size] * 2).softmax(-1).numpy()
    seen = np.stack([np.bincount(row, minlength=TOKENIZER.vocab_size) for row in tokens]) / 400
    # Half the sum of absolute differences; some 0.2 is what 400 draws from so flat a distribution leave.
    assert np.abs(seen - tempered).sum(1).mean() / 2 < 0.3


def test_what_is_reported_changes_no_completion(llama_decoder: SlotDecoder) -> None:
    ids = TensorData(np.zeros((ROWS, 1), np.int64))
    everything = SampleReport(
        topk_prompt_logprobs=2, topk_sample_logprobs=2, target_prompt_logprobs=ids, prompt_alt_tokens_k=3
    )
    plain, full, again = answers(
        llama_decoder,
        request(LONG_PROMPT, samples=3),
        request(LONG_PROMPT, samples=3, prompt_logprobs=True, report=everything),
        request(LONG_PROMPT, samples=1, prompt_logprobs=True, report=everything),
    )
    drawn = [[(s.tokens, s.logprobs) for s in response.sequences] for response in (plain, full)]
    assert drawn[0] == drawn[1]
    assert (full.prompt_alt_tokens, full.topk_prompt_logprobs) == (again.prompt_alt_tokens, again.topk_prompt_logprobs)


def test_a_prompt_of_one_token_has_nothing_to_report(llama_decoder: SlotDecoder) -> None:
    report = SampleReport(topk_prompt_logprobs=2, prompt_alt_tokens_k=2)
    (response,) = answers(llama_decoder, request([65], prompt_logprobs=True, report=report))
    assert (response.prompt_logprobs, response.topk_prompt_logprobs) == ((None,), (None,))
    assert response.prompt_alt_tokens.shape == (0, 2)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (SampleReport(prompt_logprobs_last_n=1), "prompt logprobs, which are not asked for"),
        (SampleReport(prompt_logprobs_last_n=ROWS + 1), f"between 1 and the prompt's length less one, {ROWS}"),
        (SampleReport(topk_sample_logprobs=-1), "topk_sample_logprobs must be between 0 and"),
        (SampleReport(prompt_alt_tokens_k=-1), "prompt_alt_tokens_k must be 0 or more"),
        (SampleReport(topk_prompt_logprobs=273), "topk_prompt_logprobs must be between 0 and the vocabulary's 272"),
        (
            SampleReport(target_prompt_logprobs=TensorData(np.zeros((3, 1), np.int64))),
            rf"int64 ids of shape \({ROWS}, K",
        ),
        (SampleReport(target_prompt_logprobs=TensorData(np.full((ROWS, 1), 272))), "outside the model's vocabulary"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused(llama_decoder: SlotDecoder, report: SampleReport, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        llama_decoder.add(request(LONG_PROMPT, report=report))
