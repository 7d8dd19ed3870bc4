"""Is a cached completion what the model's plain forward would give, and a function of prompt, weights and seed?"""

import dataclasses
from concurrent.futures import CancelledError

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from crucible.adapters.assets import resolve_model
from crucible.adapters.tokenizer import HfTokenizer
from crucible.engine import decoding
from crucible.engine.decoding import decode, score
from crucible.ports.sampling_client import Provenance, SamplingParams
from crucible.testing.fakes import FakeTokenizer

TOKENIZER = FakeTokenizer()
BASE = Provenance(base_model="tiny", digest="", policy_version=0, temperature=1.0)
SIZES = {
    "vocab_size": 272,  # 13 more than the tokenizer has
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
PROMPT = TOKENIZER.encode("Twenty tokens, or so: ").ids


def _llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES))


def _qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**SIZES))


def _gemma3() -> PreTrainedModel:
    """Two layers that see eight tokens, and one that sees all."""
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=8, layer_types=layers))


@pytest.fixture(scope="module", params=[_llama, _qwen3, _gemma3], ids=lambda make: make.__name__)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return request.param().eval()


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """(N, V), by one forward pass without a cache."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)


@pytest.mark.parametrize("chunk", [256, 5])
def test_greedy_decoding_and_its_logprobs_are_those_of_plain_forwards(
    model: PreTrainedModel, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_CHUNK", chunk)
    params = SamplingParams(max_tokens=20, temperature=0, stop=[])
    response = decode(
        model, PROMPT, params=params, num_samples=1, provenance=BASE, tokenizer=TOKENIZER, prompt_logprobs=True
    )
    sequence, ids = response.sequences[0], list(PROMPT)
    for token, logprob in zip(sequence.tokens, sequence.logprobs, strict=True):
        expected = plain_logprobs(model, ids)[-1]
        assert token == int(expected[: TOKENIZER.vocab_size].argmax())
        assert logprob == pytest.approx(float(expected[token]), abs=1e-4)
        ids.append(token)
    assert response.prompt_logprobs[0] is None
    expected = plain_logprobs(model, list(PROMPT))[:-1].gather(1, torch.tensor(PROMPT[1:])[:, None])[:, 0]
    assert response.prompt_logprobs[1:] == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_score_is_the_logprob_that_sampling_reported(model: PreTrainedModel) -> None:
    params = SamplingParams(max_tokens=20, seed=1, stop=[])
    sequence = decode(model, PROMPT, params=params, num_samples=1, provenance=BASE, tokenizer=TOKENIZER).sequences[0]
    scores = score(model, [*PROMPT, *sequence.tokens])
    assert scores[0] is None
    assert scores[len(PROMPT) :] == pytest.approx(sequence.logprobs, abs=1e-4)


def test_a_completion_depends_on_prompt_weights_and_seed_alone(model: PreTrainedModel) -> None:
    params = SamplingParams(max_tokens=8, seed=7, stop=[])
    group = decode(
        model, PROMPT, params=params, num_samples=4, provenance=BASE, tokenizer=TOKENIZER, prompt_logprobs=True
    ).sequences
    assert decode(model, PROMPT, params=params, num_samples=4, provenance=BASE, tokenizer=TOKENIZER).sequences == group
    assert (
        decode(model, PROMPT, params=params, num_samples=1, provenance=BASE, tokenizer=TOKENIZER).sequences == group[:1]
    )
    assert len({sequence.tokens for sequence in group}) == 4
    other = decode(
        model, PROMPT, params=dataclasses.replace(params, seed=8), num_samples=1, provenance=BASE, tokenizer=TOKENIZER
    )
    assert other.sequences[0] != group[0]


def test_without_a_seed_every_call_is_fresh(model: PreTrainedModel) -> None:
    params = SamplingParams(max_tokens=8, stop=[])
    calls = [
        decode(model, PROMPT, params=params, num_samples=1, provenance=BASE, tokenizer=TOKENIZER) for _ in range(2)
    ]
    assert calls[0] != calls[1]


def test_a_completion_ends_at_its_stop_which_it_includes(model: PreTrainedModel) -> None:
    params = SamplingParams(max_tokens=30, seed=3, stop=[])
    whole = decode(model, PROMPT, params=params, num_samples=1, provenance=BASE, tokenizer=TOKENIZER).sequences[0]
    assert (len(whole.tokens), whole.stop_reason) == (30, "length")
    rule = dataclasses.replace(params, stop=[whole.tokens[4]])
    cut = decode(model, PROMPT, params=rule, num_samples=1, provenance=BASE, tokenizer=TOKENIZER).sequences[0]
    end = whole.tokens.index(whole.tokens[4]) + 1
    assert (cut.tokens, cut.logprobs, cut.stop_reason) == (whole.tokens[:end], whole.logprobs[:end], "stop")


def test_a_prompt_of_one_token_is_enough(model: PreTrainedModel) -> None:
    params = SamplingParams(max_tokens=1)
    response = decode(
        model, [65], params=params, num_samples=1, provenance=BASE, tokenizer=TOKENIZER, prompt_logprobs=True
    )
    assert response.prompt_logprobs == (None,)
    assert score(model, [65]) == (None,)


@pytest.mark.parametrize(
    ("ids", "params", "said"),
    [
        ([], {}, "the prompt is empty"),
        ([1, 272], {}, "token id 272 is outside the model's vocabulary of 272"),
        ([-1], {}, "token id -1"),
        ([1] * 100, {"max_tokens": 29}, "100 prompt tokens and max_tokens=29 exceed the model's context of 128"),
        ([1], {"max_tokens": 4, "top_p": 2}, "top_p"),
        ([1], {"max_tokens": 4, "stop": [""]}, "empty text"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    model: PreTrainedModel, ids: list[int], params: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        decode(model, ids, params=SamplingParams(**params), num_samples=1, provenance=BASE, tokenizer=TOKENIZER)


def test_too_long_a_text_cannot_be_scored(model: PreTrainedModel) -> None:
    assert len(score(model, [1] * 128)) == 128
    with pytest.raises(ValueError, match="129 tokens exceed the model's context of 128"):
        score(model, [1] * 129)


def test_sampling_can_be_cancelled_between_tokens(model: PreTrainedModel) -> None:
    answers = iter([False, False, False, True])
    with pytest.raises(CancelledError):
        decode(
            model,
            PROMPT,
            params=SamplingParams(max_tokens=50, stop=[]),
            num_samples=1,
            provenance=BASE,
            tokenizer=TOKENIZER,
            should_stop=lambda: next(answers),
        )


@pytest.mark.slow
def test_the_packaged_model_knows_the_capital_of_france() -> None:
    torch.set_num_threads(1)
    folder = resolve_model("smollm2-135m")
    tokenizer, model = HfTokenizer.from_folder(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.encode(tokenizer.apply_chat_template(question, add_generation_prompt=True)).ids
    params = SamplingParams(max_tokens=16, temperature=0)
    sequence = decode(model, ids, params=params, num_samples=1, provenance=BASE, tokenizer=tokenizer).sequences[0]
    assert tokenizer.decode(sequence.tokens) == "The capital of France is Paris.<|im_end|>"
    assert score(model, [*ids, *sequence.tokens])[len(ids) :] == pytest.approx(sequence.logprobs, abs=1e-4)
