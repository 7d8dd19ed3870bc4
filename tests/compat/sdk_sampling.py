"""How is each public method of SamplingClient driven, and what must come back? See `sdk_world` for what a driver is."""

import numpy as np
from sdk_world import WORDS, check, sampled
from tinker import types


def sample(world, call):
    target = types.TensorData.from_numpy(np.asarray(WORDS[1:], dtype=np.int64)[:, None])
    response = call(
        world.sampler,
        "sample",
        world.prompt(),
        2,
        types.SamplingParams(max_tokens=3, stop=[], seed=1, temperature=0.7),
        include_prompt_logprobs=True,
        topk_prompt_logprobs=2,
        topk_sample_logprobs=2,
        target_prompt_logprobs=target,
        prompt_alt_tokens_k=2,
        prompt_logprobs_last_n=4,
    )
    check(response.prompt_logprobs[0] is None and response.prompt_logprobs[-1] is not None, response.prompt_logprobs)
    check(response.target_prompt_logprobs is not None and response.prompt_alt_tokens is not None, "targets and others")
    check(response.sequences[0].topk_logprobs is not None, "top-k")
    return sampled(response, 2, 3)


def compute_logprobs(world, call):
    logprobs = call(world.sampler, "compute_logprobs", world.prompt())
    return check(len(logprobs) == len(WORDS) and logprobs[0] is None and logprobs[1] < 0, logprobs)


def get_base_model(world, call):
    return check(call(world.sampler, "get_base_model") == world.model, world.model)


def sampling_tokenizer(world, call):
    return check(call(world.sampler, "get_tokenizer").decode(WORDS) is not None, "decodes")


def sampling_telemetry(world, call):
    call(world.sampler, "get_telemetry")
    return "answers"


def create(world, call):
    del call
    sampler = world.settle(type(world.sampler).create(world.service.holder, base_model=world.model))
    return check(sampler.get_base_model() == world.model, "a sampler")


def sampler_handle(world, call):
    handle = call(world.sampler, "get_sampler_handle")
    again = type(world.sampler).from_sampler_handle(handle, api_key=None)
    response = again.sample(world.prompt(), 1, types.SamplingParams(max_tokens=2, stop=[])).result(timeout=120)
    return sampled(response, 1, 2)


def on_queue_state_change(world, call):
    from tinker.lib.api_future_impl import QueueState

    call(world.sampler, "on_queue_state_change", QueueState.ACTIVE, None)
    return "is told"


DRIVERS = {
    "compute_logprobs": compute_logprobs,
    "create": create,
    "from_sampler_handle": sampler_handle,
    "get_base_model": get_base_model,
    "get_sampler_handle": sampler_handle,
    "get_telemetry": sampling_telemetry,
    "get_tokenizer": sampling_tokenizer,
    "on_queue_state_change": on_queue_state_change,
    "sample": sample,
}
