"""What does a step of TRL's GRPOTrainer cost, in its usual setting and in the best valid one found?

`SETTINGS` holds everything that was tried.
"""

import tempfile
from typing import Any

import torch
from benchmarks.grpo_vs_trl.job import (
    ADAM_BETAS,
    ADAM_EPS,
    GRAD_CLIP_NORM,
    GROUP_SIZE,
    GROUPS,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    MAX_TOKENS,
    WARM_UP_STEPS,
    Meter,
    contestant_arguments,
    questions,
    reward,
)
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

MEMBERS = GROUPS * GROUP_SIZE
ACCUMULATED = {"per_device_train_batch_size": GROUP_SIZE, "gradient_accumulation_steps": GROUPS}
BF16_WEIGHTS = {"model_init_kwargs": {"dtype": "bfloat16"}}

SETTINGS: dict[str, dict[str, Any]] = {
    "trl": {},
    "no_checkpointing": {"gradient_checkpointing": False},
    "accumulated": ACCUMULATED,
    "accumulated_no_checkpointing": {"gradient_checkpointing": False, **ACCUMULATED},
    "bf16_weights": BF16_WEIGHTS,
    "bf16_weights_no_checkpointing": {"gradient_checkpointing": False, **BF16_WEIGHTS},
    "bf16_weights_no_autocast": {"gradient_checkpointing": False, **BF16_WEIGHTS, "bf16": False},
    "accumulated_bf16_weights_no_autocast": {
        "gradient_checkpointing": False,
        **BF16_WEIGHTS,
        **ACCUMULATED,
        "bf16": False,
    },
}


class StepClock(TrainerCallback):
    """Tells the meter of each update as TRL logs it."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  (the callback's signature)
        """Model and data are ready."""
        self.meter.loaded()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002  (the callback's signature)
        """An update was applied, and these are its metrics."""
        if "reward" in logs:
            tokens = logs["completions/mean_length"] * MEMBERS
            self.meter.step(reward=float(logs["reward"]), tokens=float(tokens))


def rewards(prompts: list[str], completions: list[str], answer: list[int], **_: Any) -> list[float]:  # noqa: ARG001  (TRL names them)
    """TRL's reward function over a batch."""
    return [reward(text, number) for text, number in zip(completions, answer, strict=True)]


def build_config(*, setting: str, dtype: str, steps: int, out: str) -> GRPOConfig:
    """GRPOConfig's defaults, but for what all contestants share and what the setting changes."""
    shared: dict[str, Any] = {
        "output_dir": out,
        "per_device_train_batch_size": MEMBERS,
        "num_generations": GROUP_SIZE,
        "max_completion_length": MAX_TOKENS,
        "max_steps": steps,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "adam_beta1": ADAM_BETAS[0],
        "adam_beta2": ADAM_BETAS[1],
        "adam_epsilon": ADAM_EPS,
        "max_grad_norm": GRAD_CLIP_NORM,
        "bf16": dtype == "bfloat16",
        "shuffle_dataset": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": True,
    }
    return GRPOConfig(**shared | SETTINGS[setting])


def main() -> None:
    """Train, print the line."""
    parser = contestant_arguments(main.__doc__)
    parser.add_argument("--setting", choices=list(SETTINGS), required=True)
    parser.add_argument("--name", help="the name in the report; the setting's own if not given")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    steps, meter = args.steps + WARM_UP_STEPS, Meter()
    asked = [question for index in range(steps) for question in questions(index)]
    with tempfile.TemporaryDirectory() as out:
        trainer = GRPOTrainer(
            model=str(args.model),
            reward_funcs=rewards,
            args=build_config(setting=args.setting, dtype=args.dtype, steps=steps, out=out),
            train_dataset=Dataset.from_list([{"prompt": one.prompt, "answer": one.answer} for one in asked]),
            processing_class=AutoTokenizer.from_pretrained(args.model, padding_side="left"),
            peft_config=LoraConfig(
                r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[StepClock(meter)],
        )
        trainer.train()
    meter.report(name=args.name or args.setting, dtype=args.dtype)


if __name__ == "__main__":
    main()
