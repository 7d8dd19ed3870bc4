"""Do requests on several base models and sessions share the sampler, each with its own weights?"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from completions import LONG_PROMPT, TOKENIZER, adapter, answers, decoder, loaded_model, request

from crucible.engine.memory import MemoryLedger
from crucible.engine.options import EngineOptions
from crucible.engine.sampler import Sampler
from crucible.engine.weights import OpenWeights
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SampleResponse, SamplingParams, SamplingSession

PARAMS = SamplingParams(max_tokens=8, seed=0, stop=[])
SESSION = SamplingSession(session_id="sample-1", base_model="tiny")


def open_weights(folder: Path, *, adapted: bool = False) -> OpenWeights:
    loaded = loaded_model(folder)
    return OpenWeights(session=SESSION, loaded=loaded, adapter=adapter(loaded) if adapted else None)


def sampler(tmp_path: Path) -> Sampler:
    return Sampler(EngineOptions(checkpoint_dir=tmp_path, slots=8))


def ask(sampler: Sampler, weights: OpenWeights, *, samples: int = 2) -> "Future[SampleResponse]":
    prompt = ModelInput.from_ints(list(LONG_PROMPT))
    return sampler.submit(
        weights, prompt, params=PARAMS, num_samples=samples, tokenizer=TOKENIZER, prompt_logprobs=False
    )


def run(sampler: Sampler) -> None:
    while sampler.busy:
        sampler.step()


def test_requests_on_several_base_models_are_decoded_in_turn(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    both = [open_weights(model_folder(name), adapted=name == "llama") for name in ("llama", "qwen3")]
    shared = sampler(tmp_path)
    futures = [ask(shared, weights) for weights in both]
    run(shared)
    found = [future.result(timeout=0) for future in futures]
    for weights, response in zip(both, found, strict=True):
        alone = answers(decoder(weights.loaded), request(LONG_PROMPT, samples=2, weights=weights.adapter))[0]
        assert response.sequences == alone.sequences


def test_logprobs_of_a_text_are_those_that_sampling_reports(llama: Path, tmp_path: Path) -> None:
    weights, shared = open_weights(llama, adapted=True), sampler(tmp_path)
    future = ask(shared, weights, samples=1)
    run(shared)
    sequence = future.result(timeout=0).sequences[0]
    scored = shared.submit_logprobs(weights, ModelInput.from_ints([*LONG_PROMPT, *sequence.tokens]))
    run(shared)
    logprobs = scored.result(timeout=0)
    assert logprobs[0] is None
    assert logprobs[len(LONG_PROMPT) :] == pytest.approx(sequence.logprobs, abs=1e-4)


def test_what_is_sampled_says_which_weights_drew_it_and_how_hot(llama: Path, tmp_path: Path) -> None:
    shared = sampler(tmp_path)
    session = SamplingSession(session_id="s", base_model="tiny", digest="abc", policy_version=3)
    loaded = loaded_model(llama)
    future = ask(shared, OpenWeights(session=session, loaded=loaded, adapter=adapter(loaded)))
    run(shared)
    assert future.result(timeout=0).provenance == session.provenance(PARAMS)


def test_the_failure_of_all_leaves_the_sampler_usable(llama: Path, tmp_path: Path) -> None:
    weights, shared = open_weights(llama), sampler(tmp_path)
    futures = [ask(shared, weights), ask(shared, weights)]
    shared.step()
    shared.fail(RuntimeError("the engine ends"))
    assert not shared.busy
    assert [str(future.exception(timeout=0)) for future in futures] == ["the engine ends"] * 2
    again = ask(shared, weights)
    run(shared)
    assert len(again.result(timeout=0).sequences) == 2


def test_the_sampler_says_what_it_holds_and_how_it_decodes(llama: Path, tmp_path: Path) -> None:
    weights, shared = open_weights(llama), sampler(tmp_path)
    future = ask(shared, weights, samples=12)
    while not shared.statistics()["sequences_decoding"]:
        shared.step()
    counts = shared.statistics()
    assert (counts["sequences_decoding"], counts["sequences_waiting"], counts["slots"]) == (8, 4, 8)
    assert counts["kv_bytes"] >= 8 * shared.kv_bytes(weights.loaded, tokens=1)
    assert shared.decoding(weights.loaded) == "slots of 4 or 8, exact"
    run(shared)
    assert len(future.result(timeout=0).sequences) == 12
    assert shared.statistics()["kv_bytes"] == 0


def test_no_samples_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1, not 0"):
        ask(sampler(tmp_path), open_weights(llama), samples=0)


def test_a_models_keys_and_values_take_what_is_said(llama: Path, tmp_path: Path) -> None:
    # Two layers, keys and values, two heads of eight float32 numbers.
    assert sampler(tmp_path).kv_bytes(open_weights(llama).loaded, tokens=10) == 10 * 2 * 2 * 2 * 8 * 4


def test_that_a_model_is_decoded_one_at_a_time_is_said_once(
    model_folder: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, shared = open_weights(model_folder("qwen3_moe")), sampler(tmp_path)
    for _ in range(2):
        ask(shared, weights)
    (said,) = caplog.messages
    assert ": completions are decoded one at a time: " in said
    shared.fail(RuntimeError("enough"))


@pytest.mark.parametrize(("room", "together"), [(0, 1), (4, 4), (8, 8)])
def test_sequences_wait_until_there_is_room_for_them_at_their_longest(
    room: int, together: int, llama: Path, tmp_path: Path
) -> None:
    weights, free = open_weights(llama), sampler(tmp_path)
    longest = 64 * free.kv_bytes(weights.loaded, tokens=1)  # a block of tokens

    def left() -> float:
        return room * longest - bounded.statistics()["kv_bytes"] + prompt

    bounded = Sampler(EngineOptions(checkpoint_dir=tmp_path, slots=8), room=left)
    prompt = free.kv_bytes(weights.loaded, tokens=len(LONG_PROMPT) - 1)
    future, most = ask(bounded, weights, samples=12), 0.0
    while bounded.busy:
        bounded.step()
        most = max(most, bounded.statistics()["sequences_decoding"])
    alone = ask(free, weights, samples=12)
    run(free)
    assert most == together
    assert future.result(timeout=0).sequences == alone.result(timeout=0).sequences


def test_without_a_limit_keys_and_values_leave_half_of_the_machine_free() -> None:
    memory = MemoryLedger(None)
    assert 0 < 2 * memory.room_to_grow() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory.also = lambda: 2e15
    assert memory.room_to_grow() < 0
    assert MemoryLedger(1000).room_to_grow() == 1000
