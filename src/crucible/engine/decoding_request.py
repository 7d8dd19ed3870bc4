# pyright: standard
# (asks a transformers model for its embedding)
"""What is asked of the decoder, and can it be done?"""

from dataclasses import dataclass, field

import torch

from crucible.engine.decoding_draw import check_params
from crucible.engine.lora import LoraAdapter
from crucible.engine.model import LoadedModel
from crucible.ports.sampling_client import OnToken, Provenance, SampleReport, SamplingParams
from crucible.ports.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """Completions of one prompt under one adapter.

    adapter: None is the base model. Nothing may change it.
    num_samples: 0 asks for what `prompt_logprobs` and `report` say of the prompt alone, and needs no tokenizer.
    """

    prompt: tuple[int, ...]
    params: SamplingParams
    num_samples: int
    tokenizer: Tokenizer | None
    adapter: LoraAdapter | None
    provenance: Provenance
    prompt_logprobs: bool = False
    report: SampleReport = field(default_factory=SampleReport)
    on_token: OnToken | None = None


def check(request: DecodeRequest, loaded: LoadedModel) -> None:
    """Refuse what cannot be decoded.

    Raises:
        ValueError: if the prompt is empty or holds what is no token id of the model, a parameter is out of range,
            prompt plus max_tokens exceeds the model's context, or the report asks for what the prompt does not have.
    """
    check_params(request.params)
    if request.num_samples < 0:
        raise ValueError(f"num_samples must be at least 1, not {request.num_samples}")
    embedding = loaded.model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding)
    _check_prompt(request, vocabulary=embedding.num_embeddings, context=loaded.context_length)
    _check_report(request, vocabulary=embedding.num_embeddings)


def _check_prompt(request: DecodeRequest, *, vocabulary: int, context: int | None) -> None:
    ids, room = request.prompt, request.params.max_tokens if request.num_samples else 0
    if not ids:
        raise ValueError("the prompt is empty: give at least one token")
    outside = [token for token in ids if not 0 <= token < vocabulary]
    if outside:
        raise ValueError(f"token id {outside[0]} is outside the model's vocabulary of {vocabulary}")
    if context is not None and len(ids) + room > context:
        asked = f"{len(ids)} prompt tokens and max_tokens={room}" if room else f"{len(ids)} tokens"
        raise ValueError(f"{asked} exceed the model's context of {context}")


def _check_report(request: DecodeRequest, *, vocabulary: int) -> None:
    report, rows = request.report, len(request.prompt) - 1
    wrong: list[str] = []
    for name in ("topk_prompt_logprobs", "topk_sample_logprobs"):
        count = getattr(report, name)
        if not 0 <= count <= vocabulary:
            wrong.append(f"{name} must be between 0 and the vocabulary's {vocabulary}, not {count}")
    if report.prompt_alt_tokens_k < 0:
        wrong.append(f"prompt_alt_tokens_k must be 0 or more, not {report.prompt_alt_tokens_k}")
    last = report.prompt_logprobs_last_n
    if last is not None and not 1 <= last <= rows:
        wrong.append(f"prompt_logprobs_last_n must be between 1 and the prompt's length less one, {rows}, not {last}")
    if last is not None and not request.prompt_logprobs:
        wrong.append("prompt_logprobs_last_n applies to prompt logprobs, which are not asked for")
    targets = report.target_prompt_logprobs
    if targets is not None:
        if targets.dtype != "int64" or len(targets.shape) != 2 or targets.shape[0] != rows:
            wrong.append(
                f"target_prompt_logprobs must be int64 ids of shape ({rows}, K), not {targets.dtype} {targets.shape}"
            )
        elif targets.data.size and not (targets.data.min() >= -1 and targets.data.max() < vocabulary):
            wrong.append(f"target_prompt_logprobs has ids outside the model's vocabulary of {vocabulary}")
    if wrong:
        raise ValueError("; ".join(wrong))
