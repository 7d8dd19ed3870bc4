"""Which tiny models and datums do the engine's tests run on, and what are the written-out answers for them?"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from crucible.ports.datum import Datum, ModelInput, TensorData

VOCAB, CONTEXT, WINDOW = 272, 128, 8

_SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GQA = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_MIXED = ["sliding_attention", "full_attention"]

ARCHITECTURES = {
    "llama": ("llama", _GQA),
    "llama_untied": ("llama", {**_GQA, "tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {**_GQA, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}),
    "qwen3": ("qwen3", _GQA),
    "mistral": ("mistral", {**_GQA, "sliding_window": WINDOW}),
    "gemma3": ("gemma3_text", {**_GQA, "sliding_window": WINDOW, "layer_types": _MIXED}),
    "gemma2_capped_logits": (
        "gemma2",
        {**_GQA, "sliding_window": WINDOW, "attn_logit_softcapping": None, "final_logit_softcapping": 2.0},
    ),
    "gemma2": ("gemma2", {**_GQA, "attn_logit_softcapping": 50.0}),
    "cohere": ("cohere", {**_SIZES, "num_key_value_heads": 2, "logit_scale": 0.3}),
    "granite": ("granite", {**_SIZES, "num_key_value_heads": 2, "logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "phi3": ("phi3", {**_SIZES, "num_key_value_heads": 2}),
    "olmo2": ("olmo2", {**_SIZES, "num_key_value_heads": 2}),
    "gpt_neox": ("gpt_neox", {**_SIZES, "tie_word_embeddings": False}),
    "gpt2": ("gpt2", {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
    "opt": ("opt", {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "qwen3_moe": ("qwen3_moe", {**_GQA, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
    "mamba": ("mamba", {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2}),
    "lfm2": ("lfm2", {**_GQA, "layer_types": ["conv", "full_attention"], "block_ff_dim": 48}),
}
"""By our name: transformers' model type and its config."""

EXACT = (
    "llama",
    "llama_untied",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma3",
    "gemma2_capped_logits",
    "cohere",
    "granite",
    "phi3",
    "olmo2",
    "gpt_neox",
    "opt",
    "qwen3_moe",
)
"""The architectures that the engine computes; it refuses the others by name."""


def write(name: str, folder: Path, *, seed: int = 0) -> None:
    """Write a model with random weights."""
    model_type, config = ARCHITECTURES[name]
    torch.manual_seed(seed)
    shown = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **config))
    model.save_pretrained(folder)
    if shown:
        transformers.logging.enable_progress_bar()


def plain_model(folder: Path, **options: object) -> PreTrainedModel:
    """The model as transformers has it, with its own eager attention."""
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options).eval()


def datum(length: int, *, seed: int = 0, weights: Sequence[float] | None = None) -> Datum:
    """A datum of `length` input tokens; without `weights`, every third is 0 and the others are drawn, some negative."""
    rng = np.random.default_rng([seed, length])
    tokens = rng.integers(3, VOCAB, length + 1)
    drawn = rng.normal(size=length) * (np.arange(length) % 3 != 1)
    tensors = {
        "target_tokens": TensorData(tokens[1:]),
        "weights": TensorData(drawn if weights is None else np.asarray(weights)),
    }
    return Datum(ModelInput.from_ints(tokens[:-1].tolist()), tensors)


def datums(*lengths: int, seed: int = 0) -> list[Datum]:
    """Datums of these lengths, all different."""
    return [datum(length, seed=seed + place) for place, length in enumerate(lengths)]


def plain_logprobs(model: torch.nn.Module, example: Datum) -> torch.Tensor:
    """(N,) by one plain forward of this sequence alone, and log_softmax over the whole vocabulary."""
    logits = model(input_ids=torch.tensor([example.model_input.to_ints()]), use_cache=False).logits[0]
    targets = torch.from_numpy(example.loss_fn_inputs["target_tokens"].data.copy())
    return logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]


def plain_loss(model: torch.nn.Module, examples: Sequence[Datum]) -> torch.Tensor:
    """The sum-reduced cross-entropy, written out."""
    weights = [torch.from_numpy(example.loss_fn_inputs["weights"].data.copy()) for example in examples]
    return sum(-(plain_logprobs(model, e) * w).sum() for e, w in zip(examples, weights, strict=True))


def with_peft(folder: Path, adapter: dict[str, torch.Tensor], *, rank: int, alpha: float) -> PeftModel:
    """The plain model with peft's own layers, holding `adapter` (peft's names)."""
    names = sorted({name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for name in adapter})
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for a property under its old name
        model = get_peft_model(plain_model(folder), config)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in adapter.items():
            own[name.replace(".weight", ".default.weight")].copy_(tensor)
    return model
