"""What does a sampling request ask of the sampling port? Checked field by field, all that is wrong at once."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from crucible.errors import Problem, UnsupportedError, UserError
from crucible.ports.datum import EncodedTextChunk, ImageChunk, ModelInput, ModelInputChunk, TensorData
from crucible.ports.sampling_client import SampleReport, SamplingParams
from crucible.server.limits import Limits
from crucible.server.requests import Asample, ChunkJson, SamplingParamsJson, TensorJson
from crucible.server.sessions import Sampler
from crucible.server.wire.tensors import Room, SparseCells, check_shape

MOST_TOPK = 1 << 10
MOST_SEED = 1 << 64
_TARGETS = "target_prompt_logprobs"


class SampleRequestError(UserError):
    """A field of a sampling request is wrong."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The arguments of `SamplingClient.sample`. target_cells: those that a sparse request named."""

    prompt: ModelInput
    num_samples: int
    params: SamplingParams
    prompt_logprobs: bool
    report: SampleReport | None
    target_cells: SparseCells | None


def asked(call: Asample, sampler: Sampler, limits: Limits) -> Asked:
    """What the request asks for.

    Raises:
        UnsupportedError: if it is something that this server does not do.
        SampleRequestError: naming all fields that are out of range.
    """
    if call.record_stability_info:
        raise UnsupportedError.of("record_stability_info (the loss stable_reinforce) is not supported")
    prompt = ModelInput(tuple(_chunk(chunk) for chunk in call.prompt.chunks))
    text_only = all(isinstance(chunk, EncodedTextChunk) for chunk in prompt.chunks)
    if not text_only:
        raise UnsupportedError.of("this server takes text alone, no images")
    problems = [*_request_problems(call, prompt.length, limits), *_param_problems(call.sampling_params)]
    if problems:
        raise SampleRequestError(problems)
    targets, cells = (None, None)
    if call.target_prompt_logprobs is not None:
        targets, cells = _targets(call.target_prompt_logprobs, prompt.length)
    return Asked(
        prompt=prompt,
        num_samples=call.num_samples,
        params=_params(call.sampling_params, prompt.length, sampler),
        prompt_logprobs=bool(call.prompt_logprobs),
        report=_report(call, targets),
        target_cells=cells,
    )


def _chunk(chunk: ChunkJson) -> ModelInputChunk:
    if chunk.type == "encoded_text":
        return EncodedTextChunk(tuple(chunk.tokens))
    if chunk.type == "image" and chunk.format in ("png", "jpeg"):
        return ImageChunk(chunk.data, chunk.format, chunk.expected_tokens)
    raise UnsupportedError.of("a prompt's chunk of this type is not supported", given=chunk.type[:100])


def _request_problems(call: Asample, length: int, limits: Limits) -> list[Problem]:
    last = call.prompt_logprobs_last_n
    scored = bool(call.prompt_logprobs)
    checks = (
        ("prompt", length, "at least one token", length >= 1),
        (
            "num_samples",
            call.num_samples,
            f"from 1 to {limits.max_samples}",
            1 <= call.num_samples <= limits.max_samples,
        ),
        (
            "topk_prompt_logprobs",
            call.topk_prompt_logprobs,
            f"from 0 to {MOST_TOPK}",
            _is_topk(call.topk_prompt_logprobs),
        ),
        (
            "topk_sample_logprobs",
            call.topk_sample_logprobs,
            f"from 0 to {MOST_TOPK}",
            _is_topk(call.topk_sample_logprobs),
        ),
        ("prompt_alt_tokens_k", call.prompt_alt_tokens_k, f"from 0 to {MOST_TOPK}", _is_topk(call.prompt_alt_tokens_k)),
        ("prompt_logprobs_last_n", last, "only with prompt_logprobs", last is None or scored),
        ("prompt_logprobs_last_n", last, f"from 1 to {length - 1}", last is None or 1 <= last < length),
    )
    return [
        Problem(what=f"{what} is expected", where=name, given=str(value)) for name, value, what, ok in checks if not ok
    ]


def _param_problems(params: SamplingParamsJson) -> list[Problem]:
    stop = params.stop
    one_kind = not isinstance(stop, list) or len({type(each) for each in stop}) < 2
    checks = (
        ("max_tokens", params.max_tokens, "1 or more", params.max_tokens is None or params.max_tokens >= 1),
        ("seed", params.seed, "from 0 to 2^64 - 1", params.seed is None or 0 <= params.seed < MOST_SEED),
        ("temperature", params.temperature, "0 or more", 0 <= params.temperature < math.inf),
        ("top_k", params.top_k, "-1 (off) or 1 or more", params.top_k == -1 or params.top_k >= 1),
        ("top_p", params.top_p, "above 0, at most 1", 0 < params.top_p <= 1),
        ("stop", stop, "either texts or token ids", one_kind),
        ("stop", stop, "texts that are not empty", stop != "" and (not isinstance(stop, list) or "" not in stop)),
    )
    return [
        Problem(what=f"{what} is expected", where=f"sampling_params.{name}", given=repr(value)[:200])
        for name, value, what, ok in checks
        if not ok
    ]


def _is_topk(width: int) -> bool:
    return 0 <= width <= MOST_TOPK


def _params(params: SamplingParamsJson, length: int, sampler: Sampler) -> SamplingParams:
    most = params.max_tokens
    if most is None:
        if sampler.context_length is None:
            raise ValueError("max_tokens is missing, and the model does not state its context length")
        most = max(1, sampler.context_length - length)
    stop = params.stop if params.stop is None or isinstance(params.stop, str) else tuple(params.stop)
    return SamplingParams(
        max_tokens=most,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        seed=params.seed,
        stop=cast("str | tuple[str, ...] | tuple[int, ...] | None", stop),
    )


def _report(call: Asample, targets: TensorData | None) -> SampleReport | None:
    report = SampleReport(
        topk_prompt_logprobs=call.topk_prompt_logprobs,
        topk_sample_logprobs=call.topk_sample_logprobs,
        target_prompt_logprobs=targets,
        prompt_alt_tokens_k=call.prompt_alt_tokens_k,
        prompt_logprobs_last_n=call.prompt_logprobs_last_n,
    )
    return None if targets is None and report == SampleReport() else report


def _targets(tensor: TensorJson, length: int) -> tuple[TensorData, SparseCells | None]:
    """(length - 1, K) token ids, -1 where none is asked for."""
    if tensor.dtype != "int64":
        raise ValueError(f"{_TARGETS}: token ids are int64, not {tensor.dtype[:20]}")
    shape = check_shape(tensor.shape or [], name=_TARGETS)
    if len(shape) != 2 or shape[0] != length - 1:
        raise ValueError(f"{_TARGETS}: its shape is {list(shape)}: [{length - 1}, K] for a prompt of {length} tokens")
    values = np.asarray(tensor.data, dtype=np.int64)
    if tensor.sparse_crow_indices is None and tensor.sparse_col_indices is None:
        if shape[0] * shape[1] != len(values):
            raise ValueError(f"{_TARGETS}: {len(values)} ids do not make the shape {list(shape)}")
        return TensorData(values.reshape(shape)), None
    crow = np.asarray(tensor.sparse_crow_indices or [], dtype=np.int64)
    col = np.asarray(tensor.sparse_col_indices or [], dtype=np.int64)
    cells = SparseCells.checked(crow, col, shape, values=len(values), name=_TARGETS)
    return cells.filled(values, elsewhere=-1, room=Room(), name=_TARGETS), cells
