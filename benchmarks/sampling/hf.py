"""How fast does transformers' `generate` sample? Merged or through peft. Run by `benchmarks.sampling.run`."""

from collections.abc import Sequence

import torch
from benchmarks.sampling.job import (
    GREEDY_TOKENS,
    GROUP_SIZE,
    STATIC_BATCH,
    Arguments,
    Job,
    Request,
    contestant_arguments,
    measure,
)
from peft import PeftModel
from transformers import AutoModelForCausalLM, DynamicCache

NAMES = ("hf_group", "hf_group_prefix", "peft_group", "hf_ragged")


def load(arguments: Arguments) -> torch.nn.Module:
    """The model with the adapter: merged in float32 and then cast, or beside it in the model's dtype (the faster of
    the two ways that peft offers)."""
    dtype = getattr(torch, arguments.dtype)
    through_peft = arguments.name == "peft_group"
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype if through_peft else torch.float32)
    model = PeftModel.from_pretrained(base, str(arguments.peft), autocast_adapter_dtype=False)
    merged = model.to(dtype) if through_peft else model.merge_and_unload().to(dtype)
    # Nothing stops a completion but its length: no token is masked and none is looked for.
    merged.generation_config.eos_token_id = None
    return merged.eval()


def generate(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], *, max_tokens: int, group: int = 1, cache: object = None
) -> list[list[int]]:
    """The completions of prompts of one length, drawn at temperature 1 from the whole vocabulary."""
    return _completions(
        model,
        prompts,
        max_new_tokens=max_tokens,
        num_return_sequences=group,
        past_key_values=cache,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
    )


def _completions(model: torch.nn.Module, prompts: Sequence[Sequence[int]], **options: object) -> list[list[int]]:
    ids = torch.tensor(prompts)
    drawn = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options)
    return drawn[:, ids.shape[1] :].tolist()


def group_from_prefix(model: torch.nn.Module, request: Request) -> list[list[int]]:
    """A group whose prompt is read once: what a user can do by hand with `past_key_values`."""
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.tensor([request.prompt[:-1]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(GROUP_SIZE)
    return generate(model, [request.prompt] * GROUP_SIZE, max_tokens=request.max_tokens, cache=cache)


def static_batches(model: torch.nn.Module, requests: Sequence[Request]) -> list[list[int]]:
    """Batches in order of arrival, each of which runs to its longest; what is drawn beyond a request is thrown away."""
    completions: list[list[int]] = []
    for start in range(0, len(requests), STATIC_BATCH):
        batch = requests[start : start + STATIC_BATCH]
        longest = max(request.max_tokens for request in batch)
        rows = generate(model, [request.prompt for request in batch], max_tokens=longest)
        completions += [row[: request.max_tokens] for row, request in zip(rows, batch, strict=True)]
    return completions


def run(name: str, model: torch.nn.Module, job: Job) -> list[list[int]]:
    """The completions of the job that the contestant is for."""
    if name == "hf_ragged":
        return static_batches(model, job.ragged)
    if name == "hf_group_prefix":
        return group_from_prefix(model, job.group)
    return generate(model, [job.group.prompt], max_tokens=job.group.max_tokens, group=GROUP_SIZE)


def main() -> None:
    """Measure the one asked for, print the line."""
    arguments = contestant_arguments(main.__doc__ or "", NAMES)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, prompt = load(arguments), arguments.job.group.prompt
    measure(
        arguments,
        lambda job: run(arguments.name, model, job),
        greedy=lambda: _completions(model, [prompt], max_new_tokens=GREEDY_TOKENS, do_sample=False)[0],
    )


if __name__ == "__main__":
    main()
