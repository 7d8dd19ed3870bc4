"""What does a careful hand-written loop reach? transformers + peft, row by row, so that nothing is padded."""

import torch
from benchmarks.sft_vs_trl.measure import (
    ADAM_BETAS,
    ADAM_EPS,
    BATCH_SIZE,
    GRAD_CLIP_NORM,
    LORA_ALPHA,
    LORA_RANK,
    WARM_UP_STEPS,
    Meter,
    contestant_arguments,
    measured_tokens,
)
from benchmarks.sft_vs_trl.rows import IGNORED, Row, read
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM


def lora_model(folder: str, dtype: torch.dtype) -> torch.nn.Module:
    """The model with LoRA on every linear layer, base and adapters in the same dtype (the faster choice here)."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    config = LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config, autocast_adapter_dtype=False)
    model.train()
    return model


def train_batch(model: torch.nn.Module, batch: list[Row]) -> float:
    """Accumulate the gradient of the mean loss over the batch's trained tokens, one row at a time."""
    trained = sum(row.trained_tokens for row in batch)
    total = 0.0
    for row in batch:
        logits = model(input_ids=torch.tensor([row.input_ids]), use_cache=False).logits[0, :-1]
        targets = torch.tensor(row.labels[1:])
        loss = cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum") / trained
        loss.backward()
        total += loss.item()
    return total


def main() -> None:
    """Train and print the JSON line."""
    args = contestant_arguments(__doc__).parse_args()
    rows = read(args.rows, (args.steps + WARM_UP_STEPS) * BATCH_SIZE)
    meter = Meter()
    model = lora_model(args.model, getattr(torch, args.dtype))
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        adapters, lr=args.learning_rate, betas=ADAM_BETAS, eps=ADAM_EPS, weight_decay=0.0, fused=True
    )
    meter.loaded()
    losses: list[float] = []
    for start in range(0, len(rows), BATCH_SIZE):
        losses.append(train_batch(model, rows[start : start + BATCH_SIZE]))
        torch.nn.utils.clip_grad_norm_(adapters, GRAD_CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if len(losses) == WARM_UP_STEPS:
            meter.start()
    meter.stop()
    meter.report(
        name="peft_loop",
        dtype=args.dtype,
        useful_tokens=measured_tokens(rows),
        losses=losses,
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
