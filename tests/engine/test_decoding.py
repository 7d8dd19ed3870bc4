"""Is a completion what the model's plain forward would give, and a function of prompt, weights and seed alone?"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from completions import (
    LONG_PROMPT,
    PROMPT,
    TOKENIZER,
    adapter,
    answers,
    decoder,
    drained,
    loaded_model,
    plain_logprobs,
    request,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crucible.adapters.assets import resolve_model
from crucible.adapters.tokenizer import HfTokenizer
from crucible.engine.decoding_pass import DecodingPass, PromptPart
from crucible.engine.decoding_probe import Prepared, prepare
from crucible.engine.decoding_request import DecodeRequest
from crucible.engine.lora import LoraMatrices
from crucible.engine.model import LoadedModel
from crucible.engine.packing import Packing

ARCHITECTURES = ("llama", "qwen3", "gemma3", "mistral", "gpt_neox", "opt", "qwen3_moe")


@pytest.fixture(scope="module")
def tiny(model_folder: Callable[[str], Path]) -> tuple[LoadedModel, Prepared]:
    torch.set_num_threads(1)
    loaded = loaded_model(model_folder("llama"))
    return loaded, prepare(loaded, slots=8)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("prompt", [PROMPT, LONG_PROMPT], ids=["copied", "shared"])
def test_greedy_decoding_and_its_logprobs_are_those_of_plain_forwards(
    model_folder: Callable[[str], Path], name: str, prompt: tuple[int, ...]
) -> None:
    plain = tiny_models.plain_model(model_folder(name))
    asked = request(prompt, max_tokens=20, temperature=0, prompt_logprobs=True)
    response = answers(decoder(loaded_model(model_folder(name))), asked)[0]
    sequence, ids = response.sequences[0], [*prompt, *response.sequences[0].tokens]
    expected = plain_logprobs(plain, ids)
    following = expected[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    assert response.prompt_logprobs is not None and response.prompt_logprobs[0] is None
    assert [*response.prompt_logprobs[1:], *sequence.logprobs] == pytest.approx(following, abs=1e-4)
    greedy = expected[len(prompt) - 1 : -1, : TOKENIZER.vocab_size].argmax(-1)
    assert sequence.tokens == tuple(greedy.tolist())


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3_moe"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_completion_depends_on_prompt_weights_and_seed_alone(
    model_folder: Callable[[str], Path], name: str, dtype: str
) -> None:
    loaded = loaded_model(model_folder(name), dtype=dtype)
    prepared = prepare(loaded, slots=8)
    # The experts of a mixture are no plain linear layers: they carry no adapter.
    mine, other = (None, None) if name == "qwen3_moe" else (adapter(loaded, seed=1), adapter(loaded, seed=2))
    for prompt in (PROMPT, LONG_PROMPT):
        asked = request(prompt, samples=5, weights=mine, max_tokens=30, seed=7)
        (alone,) = answers(decoder(loaded, prepared=prepared), asked)
        beside = [request(prompt[::-1], samples=3, weights=other, seed=1), request(samples=2, max_tokens=3)]
        assert answers(decoder(loaded, prepared=prepared), *beside, asked)[-1] == alone
        (first,) = answers(decoder(loaded, prepared=prepared), dataclasses.replace(asked, num_samples=1))
        assert first.sequences == alone.sequences[:1]
        assert len({sequence.tokens for sequence in alone.sequences}) == 5


REQUESTS = [
    request(prompt, samples=samples, max_tokens=max_tokens, seed=seed)
    for seed, (prompt, samples, max_tokens) in enumerate(
        [(PROMPT, 1, 5), (LONG_PROMPT, 3, 12), (PROMPT[:1], 2, 70), (LONG_PROMPT[:33], 9, 3), (PROMPT, 1, 1)]
    )
]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(REQUESTS) - 1), st.integers(0, 9)), min_size=1, max_size=6))
def test_when_requests_come_and_beside_which_changes_no_bit(
    tiny: tuple[LoadedModel, Prepared], schedule: list[tuple[int, int]]
) -> None:
    loaded, prepared = tiny
    busy = decoder(loaded, prepared=prepared)
    futures = []
    for which, steps in schedule:
        futures.append(busy.add(REQUESTS[which]))
        for _ in range(steps):
            if busy.busy:
                busy.step()
    for (which, _), response in zip(schedule, drained(busy, futures), strict=True):
        assert response == answers(decoder(loaded, prepared=prepared), REQUESTS[which])[0]


def test_more_sequences_than_slots_are_all_decoded(tiny: tuple[LoadedModel, Prepared]) -> None:
    loaded, prepared = tiny
    many = answers(decoder(loaded, prepared=prepared), request(samples=40))[0]
    assert len({sequence.tokens for sequence in many.sequences}) == 40
    assert answers(decoder(loaded, prepared=prepared), request(samples=3))[0].sequences == many.sequences[:3]


def test_a_small_request_does_not_wait_for_a_large_one(tiny: tuple[LoadedModel, Prepared]) -> None:
    busy = decoder(tiny[0], prepared=tiny[1])
    large, small = busy.add(request(samples=100, max_tokens=4)), busy.add(request(LONG_PROMPT, max_tokens=4))
    while not small.done():
        busy.step()
    assert not large.done()
    assert len(drained(busy, [large])[0].sequences) == 100


def test_without_a_seed_every_request_is_fresh(tiny: tuple[LoadedModel, Prepared]) -> None:
    one, other = answers(decoder(tiny[0], prepared=tiny[1]), request(seed=None), request(seed=None))
    assert one != other


def test_a_completion_ends_at_its_stop_which_it_includes(tiny: tuple[LoadedModel, Prepared]) -> None:
    whole = answers(decoder(tiny[0], prepared=tiny[1]), request(max_tokens=30, seed=3))[0].sequences[0]
    assert (len(whole.tokens), whole.stop_reason) == (30, "length")
    rule = request(max_tokens=30, seed=3, stop=[whole.tokens[4]])
    cut = answers(decoder(tiny[0], prepared=tiny[1]), rule)[0].sequences[0]
    end = whole.tokens.index(whole.tokens[4]) + 1
    assert (cut.tokens, cut.logprobs, cut.stop_reason) == (whole.tokens[:end], whole.logprobs[:end], "stop")


def test_a_request_that_diverges_fails_alone(tiny: tuple[LoadedModel, Prepared]) -> None:
    loaded, prepared = tiny
    broken = adapter(loaded)
    layers = {
        name: LoraMatrices(a=layer.a, b=torch.full_like(layer.b, torch.inf)) for name, layer in broken.layers.items()
    }
    broken = dataclasses.replace(broken, layers=layers)
    busy = decoder(loaded, prepared=prepared)
    futures = [busy.add(request(LONG_PROMPT, samples=2, weights=weights)) for weights in (None, broken, None)]
    while busy.busy:
        busy.step()
    assert isinstance(futures[1].exception(timeout=0), ArithmeticError)
    alone = answers(decoder(loaded, prepared=prepared), request(LONG_PROMPT, samples=2))[0]
    assert [futures[0].result(timeout=0), futures[2].result(timeout=0)] == [alone, alone]
    assert answers(busy, request(LONG_PROMPT, samples=8))[0].sequences[:2] == alone.sequences


def test_whatever_is_not_done_can_be_failed(tiny: tuple[LoadedModel, Prepared]) -> None:
    busy = decoder(tiny[0], prepared=tiny[1])
    futures = [busy.add(request(samples=12)), busy.add(request(LONG_PROMPT))]
    busy.step()
    busy.fail(RuntimeError("the end"))
    assert not busy.busy
    assert [str(future.exception(timeout=0)) for future in futures] == ["the end", "the end"]
    assert busy.statistics == {"sequences_decoding": 0, "sequences_waiting": 0, "kv_bytes": 0}


def test_keys_and_values_are_freed_with_the_last_sequence(tiny: tuple[LoadedModel, Prepared]) -> None:
    busy = decoder(tiny[0], prepared=tiny[1])
    future = busy.add(request(LONG_PROMPT, samples=3))
    while not busy.statistics["sequences_decoding"]:
        busy.step()
    assert busy.statistics["kv_bytes"] > 0
    drained(busy, [future])
    assert busy.statistics["kv_bytes"] == 0


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("weights", ["base", "adapter"])
def test_sampled_logprobs_are_the_trainers(model_folder: Callable[[str], Path], name: str, weights: str) -> None:
    loaded = loaded_model(model_folder(name))
    mine = adapter(loaded) if weights == "adapter" else None
    asked = request(LONG_PROMPT, samples=3, weights=mine, max_tokens=40, prompt_logprobs=True)
    beside = request(samples=4, weights=adapter(loaded, seed=5), max_tokens=40)
    response = answers(decoder(loaded), beside, asked)[1]
    for sequence in response.sequences:
        ids = torch.tensor([*LONG_PROMPT, *sequence.tokens])
        with torch.no_grad(), loaded.active.use(mine):
            hidden = loaded.hidden_states(ids[:-1], Packing(lengths=(len(ids) - 1,)))
            logits = loaded.model.get_output_embeddings()(hidden).float()
        trained = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0].tolist()
        assert response.prompt_logprobs is not None
        assert [*response.prompt_logprobs[1:], *sequence.logprobs] == pytest.approx(trained, abs=1e-4)


def test_an_adapter_samples_as_its_merged_weights_do(llama: Path, tmp_path: Path) -> None:
    loaded = loaded_model(llama)
    mine = adapter(loaded)
    asked = request(LONG_PROMPT, samples=3, max_tokens=30)
    response = answers(decoder(loaded), dataclasses.replace(asked, adapter=mine))[0]
    tensors = {
        f"base_model.model.{name}.lora_{letter}.weight": matrix.detach()
        for name, layer in mine.layers.items()
        for letter, matrix in (("A", layer.a), ("B", layer.b))
    }
    merged = tiny_models.with_peft(llama, tensors, rank=mine.rank, alpha=mine.alpha).merge_and_unload()
    for sequence in response.sequences:
        logprobs = plain_logprobs(merged, [*LONG_PROMPT, *sequence.tokens])[len(LONG_PROMPT) - 1 : -1]
        expected = logprobs.gather(1, torch.tensor(sequence.tokens)[:, None])[:, 0].tolist()
        assert sequence.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("prompt", "params", "said"),
    [
        ((), {}, "the prompt is empty"),
        ((1, 272), {}, "token id 272 is outside the model's vocabulary of 272"),
        ((-1,), {}, "token id -1"),
        ((1,) * 100, {"max_tokens": 29}, "100 prompt tokens and max_tokens=29 exceed the model's context of 128"),
        ((1,), {"max_tokens": 4, "top_p": 2}, "top_p"),
        ((1,), {"max_tokens": 4, "stop": [""]}, "empty text"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    tiny: tuple[LoadedModel, Prepared], prompt: tuple[int, ...], params: dict[str, object], said: str
) -> None:
    refusing = decoder(tiny[0], prepared=tiny[1])
    with pytest.raises(ValueError, match=said):
        refusing.add(request(prompt, **params))
    assert not refusing.busy


def test_a_prompt_of_many_chunks_is_read_like_one_of_one(
    tiny: tuple[LoadedModel, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(LONG_PROMPT, prompt_logprobs=True)
    (whole,) = answers(decoder(tiny[0], prepared=tiny[1]), asked)
    monkeypatch.setattr("crucible.engine.decoding.CHUNK", 7)
    (parts,) = answers(decoder(tiny[0], prepared=tiny[1]), asked)
    assert parts.prompt_logprobs is not None and whole.prompt_logprobs is not None
    assert parts.prompt_logprobs[1:] == pytest.approx(whole.prompt_logprobs[1:], abs=1e-4)
    assert parts.sequences[0].logprobs == pytest.approx(whole.sequences[0].logprobs, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_packaged_model_knows_the_capital_of_france(dtype: str) -> None:
    torch.set_num_threads(1)
    folder = resolve_model("smollm2-135m")
    tokenizer, loaded = HfTokenizer.from_folder(folder), loaded_model(folder, dtype=dtype)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tuple(tokenizer.encode(tokenizer.apply_chat_template(question, add_generation_prompt=True)).ids)
    asked = dataclasses.replace(request(ids, max_tokens=16, temperature=0, stop=None), tokenizer=tokenizer)
    sequence = answers(decoder(loaded), asked)[0].sequences[0]
    assert tokenizer.decode(sequence.tokens) == "The capital of France is Paris.<|im_end|>"
    scored: DecodeRequest = dataclasses.replace(request((*ids, *sequence.tokens)), num_samples=0, prompt_logprobs=True)
    read = answers(decoder(loaded), scored)[0].prompt_logprobs
    assert read is not None
    gap = np.abs(np.array(read[len(ids) :], dtype=float) - np.array(sequence.logprobs))
    assert gap.max() < (1e-4 if dtype == "float32" else 0.25)  # bfloat16: other kernels, tenths of a nat; 0.10 seen


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_short_prompts_are_read_together_and_each_as_if_alone(
    model_folder: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_model(model_folder(name))
    prepared = prepare(loaded, slots=32)
    weights = [adapter(loaded, seed=1), None, adapter(loaded, seed=2)]
    text = [*LONG_PROMPT, *PROMPT]
    asked = [
        request(text[:length], weights=weights[place % 3], prompt_logprobs=True, seed=place)
        for place, length in enumerate([2, 9, 17, 1, 30, 12, 70, 5])
    ]
    alone = [answers(decoder(loaded, prepared=prepared), each)[0] for each in asked]
    passes: list[int] = []
    plain = DecodingPass.prompts

    def counted(self: DecodingPass, parts: Sequence[PromptPart], *, width: int) -> list[Tensor]:
        passes.append(len(parts))
        return plain(self, parts, width=width)

    monkeypatch.setattr(DecodingPass, "prompts", counted)
    assert answers(decoder(loaded, prepared=prepared), *asked) == alone
    assert sum(passes) == 6 and len(passes) < 4  # one has nothing to read before its last token, one is longer


def test_a_prompt_that_cannot_be_read_fails_alone_among_those_read_with_it(
    tiny: tuple[LoadedModel, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [request(PROMPT[:length], seed=length) for length in (4, 5, 6)]
    alone = answers(decoder(tiny[0], prepared=tiny[1]), asked[0])[0]
    plain = DecodingPass.prompts

    def failing(self: DecodingPass, parts: Sequence[PromptPart], *, width: int) -> list[Tensor]:
        if any(part.end == 4 for part in parts):  # the second's
            raise RuntimeError("a kernel that will not")
        return plain(self, parts, width=width)

    monkeypatch.setattr(DecodingPass, "prompts", failing)
    busy = decoder(tiny[0], prepared=tiny[1])
    futures = [busy.add(each) for each in asked]
    while busy.busy:
        busy.step()
    assert futures[0].result(timeout=0) == alone
    assert str(futures[1].exception(timeout=0)) == "a kernel that will not"
    assert futures[2].exception(timeout=0) is None
