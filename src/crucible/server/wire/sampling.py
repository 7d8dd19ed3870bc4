"""How do a sampling request's completions go onto the wire?"""

from collections.abc import Sequence

import numpy as np

from crucible.ports.sampling_client import SampledSequence, SampleResponse, TopLogprobs
from crucible.server.wire import messages_pb2 as wire
from crucible.server.wire.tensors import SparseCells, tensor_message

NO_LOGPROB = -99999.0
"""The logprob of an empty cell of a top-k matrix; its token is 0."""


def write_sample_response(
    response: SampleResponse, *, topk_prompt: int = 0, topk_sample: int = 0, target_cells: SparseCells | None = None
) -> bytes:
    """The response as the SDK reads it.

    topk_prompt, topk_sample: the widths that were asked for. target_cells: those that a sparse request named: the
    answer names the same.
    """
    message = wire.SampleResponse(sequences=[_sequence(sequence, topk_sample) for sequence in response.sequences])
    if response.prompt_logprobs is not None:
        values = [np.nan if value is None else value for value in response.prompt_logprobs]
        message.prompt_logprobs = np.asarray(values, dtype="<f4").tobytes()
    if response.topk_prompt_logprobs is not None:
        message.topk_prompt_logprobs.CopyFrom(_topk(response.topk_prompt_logprobs, topk_prompt))
    if response.target_prompt_logprobs is not None:
        message.target_prompt_logprobs.CopyFrom(tensor_message(response.target_prompt_logprobs, cells=target_cells))
    if response.prompt_alt_tokens is not None and response.prompt_alt_logprobs is not None:
        message.prompt_alt_tokens.tokens.CopyFrom(tensor_message(response.prompt_alt_tokens))
        message.prompt_alt_tokens.logprobs.CopyFrom(tensor_message(response.prompt_alt_logprobs))
    return message.SerializeToString()


def _sequence(sequence: SampledSequence, topk: int) -> wire.SampledSequence:
    stopped = sequence.stop_reason == "stop"
    message = wire.SampledSequence(
        stop_reason=wire.STOP_REASON_STOP if stopped else wire.STOP_REASON_LENGTH,
        tokens=np.asarray(sequence.tokens, dtype="<i4").tobytes(),
        logprobs=np.asarray(sequence.logprobs, dtype="<f4").tobytes(),
    )
    if sequence.topk_logprobs is not None:
        message.topk_sampled_logprobs.CopyFrom(_topk(sequence.topk_logprobs, topk))
    return message


def _topk(rows: Sequence[TopLogprobs | None], width: int) -> wire.TopkLogprobs:
    tokens = np.zeros((len(rows), width), dtype="<i4")
    logprobs = np.full((len(rows), width), NO_LOGPROB, dtype="<f4")
    for place, row in enumerate(rows):
        for column, (token, logprob) in enumerate(row or ()):
            tokens[place, column] = token
            logprobs[place, column] = logprob
    return wire.TopkLogprobs(token_ids=tokens.tobytes(), logprobs=logprobs.tobytes(), k=width, length=len(rows))
