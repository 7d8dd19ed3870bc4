"""How do the decoder's tests ask for completions, and what are the written-out answers?"""

import concurrent.futures
from collections.abc import Sequence
from pathlib import Path

import torch

from crucible.engine.decoding import SlotDecoder
from crucible.engine.decoding_probe import Prepared, prepare
from crucible.engine.decoding_request import DecodeRequest
from crucible.engine.lora import LoraAdapter
from crucible.engine.model import LoadedModel, adapter_for, load_model
from crucible.ports.sampling_client import Provenance, SampleReport, SampleResponse, SamplingParams
from crucible.ports.training_client import SessionConfig
from crucible.testing.fakes import FakeTokenizer

TOKENIZER = FakeTokenizer()
PROMPT = tuple(TOKENIZER.encode("Twenty tokens, or so: ").ids)
LONG_PROMPT = tuple(TOKENIZER.encode("A prompt that is long enough to be shared by sequences: ").ids)
PROVENANCE = Provenance(base_model="tiny", digest="", policy_version=0, temperature=1.0)


def loaded_model(folder: Path, *, dtype: str = "float32") -> LoadedModel:
    return load_model(folder, dtype=dtype, device=torch.device("cpu"))


def adapter(loaded: LoadedModel, *, seed: int = 0, rank: int = 4) -> LoraAdapter:
    """With a B that is not zero, so that it changes what is sampled."""
    made = adapter_for(loaded, SessionConfig(model="tiny", lora_rank=rank, lora_alpha=2.0 * rank, seed=seed))
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in made.layers.values():
            layer.b.normal_(0, 0.1, generator=random)
    return made


def request(
    prompt: Sequence[int] = PROMPT,
    *,
    samples: int = 1,
    weights: LoraAdapter | None = None,
    prompt_logprobs: bool = False,
    report: SampleReport | None = None,
    **params: object,
) -> DecodeRequest:
    """8 tokens of seed 0 that nothing stops, but for what is given."""
    return DecodeRequest(
        prompt=tuple(prompt),
        params=SamplingParams(**{"max_tokens": 8, "seed": 0, "stop": [], **params}),
        num_samples=samples,
        tokenizer=TOKENIZER,
        adapter=weights,
        provenance=PROVENANCE,
        prompt_logprobs=prompt_logprobs,
        report=report or SampleReport(),
    )


def decoder(loaded: LoadedModel, *, slots: int = 8, prepared: Prepared | None = None) -> SlotDecoder:
    return SlotDecoder(loaded, prepared or prepare(loaded, slots=slots))


def answers(decoder: SlotDecoder, *requests: DecodeRequest) -> list[SampleResponse]:
    """What they get when all are added at once."""
    futures = [decoder.add(each) for each in requests]
    return drained(decoder, futures)


def drained(
    decoder: SlotDecoder, futures: Sequence["concurrent.futures.Future[SampleResponse]"]
) -> list[SampleResponse]:
    while decoder.busy:
        decoder.step()
    return [future.result(timeout=0) for future in futures]


@torch.no_grad()
def plain_logprobs(model: torch.nn.Module, ids: Sequence[int]) -> torch.Tensor:
    """(N, V), by one forward pass of transformers' own attention, without a cache."""
    return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().log_softmax(-1)
