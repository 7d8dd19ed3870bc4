"""What does TRL's SFTTrainer reach, in its usual setting and in the best valid one found?

`SETTINGS` holds everything that was tried; README.md has the figures and says which are valid.
"""

import tempfile
from typing import Any

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
)
from benchmarks.sft_vs_trl.rows import read
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

ROW_BY_ROW = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": BATCH_SIZE}
BF16_WEIGHTS = {"model_init_kwargs": {"dtype": "bfloat16"}}

SETTINGS: dict[str, dict[str, Any]] = {
    "trl": {},
    "no_checkpointing": {"gradient_checkpointing": False},
    "grouped": {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"},
    "padding_free": {"gradient_checkpointing": False, "padding_free": True, "max_length": None},
    "packed": {"gradient_checkpointing": False, "packing": True, "per_device_train_batch_size": 4},
    "row_by_row": {"gradient_checkpointing": False, **ROW_BY_ROW},
    "row_by_row_checkpointed": ROW_BY_ROW,
    "bf16_weights": BF16_WEIGHTS,
    "row_by_row_bf16_weights": {"gradient_checkpointing": False, **ROW_BY_ROW, **BF16_WEIGHTS},
    "row_by_row_bf16_weights_no_autocast": {
        "gradient_checkpointing": False,
        **ROW_BY_ROW,
        **BF16_WEIGHTS,
        "bf16": False,
    },
}


class StepClock(TrainerCallback):
    """Starts and stops the meter at the trainer's own step boundaries."""

    def __init__(self, meter: Meter, last_step: int) -> None:
        self.meter = meter
        self.last_step = last_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  (the callback's signature)
        """Model and data are ready."""
        self.meter.loaded()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  (the callback's signature)
        """One update was applied."""
        if state.global_step == WARM_UP_STEPS:
            self.meter.start()
        if state.global_step == self.last_step:
            self.meter.stop()


def build_config(*, setting: str, dtype: str, learning_rate: float, out: str) -> SFTConfig:
    """SFTConfig's defaults, but for what all contestants share and what the setting changes."""
    shared: dict[str, Any] = {
        "output_dir": out,
        "per_device_train_batch_size": BATCH_SIZE,
        "max_length": 512,
        "num_train_epochs": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "adam_beta1": ADAM_BETAS[0],
        "adam_beta2": ADAM_BETAS[1],
        "adam_epsilon": ADAM_EPS,
        "max_grad_norm": GRAD_CLIP_NORM,
        "bf16": dtype == "bfloat16",
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": True,
    }
    return SFTConfig(**shared | SETTINGS[setting])


def main() -> None:
    """Train and print the JSON line."""
    parser = contestant_arguments(__doc__)
    parser.add_argument("--setting", choices=list(SETTINGS), required=True)
    parser.add_argument("--name", help="the name in the report; the setting's own if not given")
    args = parser.parse_args()
    rows = read(args.rows, (args.steps + WARM_UP_STEPS) * BATCH_SIZE)
    with tempfile.TemporaryDirectory() as out:
        config = build_config(
            setting=args.setting,
            dtype=args.dtype,
            learning_rate=args.learning_rate,
            out=out,
        )
        trainer = SFTTrainer(
            model=args.model,
            args=config,
            train_dataset=Dataset.from_list([vars(row) for row in rows]),
            processing_class=AutoTokenizer.from_pretrained(args.model),
            peft_config=LoraConfig(
                r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
        updates = config.per_device_train_batch_size * config.gradient_accumulation_steps
        last_step = -(-len(trainer.train_dataset) // updates)
        meter = Meter()
        trainer.add_callback(StepClock(meter, last_step))
        trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    # TRL's own count of tokens that are no padding, cumulative; it also covers settings that reorder the rows.
    useful_tokens = int(steps[-1]["num_tokens"] - steps[WARM_UP_STEPS - 1]["num_tokens"])
    meter.report(
        name=args.name or args.setting,
        dtype=args.dtype,
        useful_tokens=useful_tokens,
        losses=[entry["loss"] for entry in steps],
        threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main()
