# pyright: standard
# (chz's validators are untyped)
"""Which keys do the supervised recipes take?"""

from typing import Literal

import chz
from chz.validators import ge, gt

from crucible.cookbook.training_config import ScheduleName, TrainingConfig, filled, finite
from crucible.kitchen.config import REFERENCE

TrainOnName = Literal[
    "all_assistant_messages",
    "last_assistant_message",
    "last_assistant_turn",
    "all_messages",
    "all_tokens",
    "all_user_and_system_messages",
    "customized",
]


@chz.chz(typecheck=True)
class SupervisedConfig(TrainingConfig):
    """Supervised fine-tuning with LoRA."""

    model: str = chz.field(
        default="smollm2-135m",
        validator=filled,
        metadata=dict(REFERENCE),
        doc="base model: a packaged name, a hub id, a local folder or a GGUF file",
    )
    dataset: str = chz.field(
        default="gsm8k",
        validator=filled,
        metadata=dict(REFERENCE),
        doc="training data: a known name, a hub id, or a local jsonl/json/csv/parquet file",
    )
    renderer: str = chz.field(
        default="auto",
        validator=filled,
        doc="how messages become tokens: auto (what fits the model's own template), a family such as qwen3, "
        "template or role_colon",
    )
    train_on: TrainOnName = chz.field(default="all_assistant_messages", doc="which parts of a conversation are trained")
    learning_rate: float = chz.field(default=2e-4, validator=[gt(0), finite], doc="peak learning rate of AdamW")
    lr_schedule: ScheduleName = chz.field(default="linear", doc="how the rate decays to the last step")
    epochs: int = chz.field(default=1, validator=ge(1), doc="passes over the training rows")
    max_steps: int | None = chz.field(default=None, doc="stop after this many optimizer steps (None: all of them)")
    batch_size: int = chz.field(default=4, validator=ge(1), doc="rows per optimizer step")
    gradient_accumulation_steps: int = chz.field(
        default=1,
        validator=ge(1),
        doc="forward_backward calls per optimizer step: each takes batch_size / this many rows, their gradients add up",
    )
    max_length: int = chz.field(
        default=1024, validator=ge(2), doc="longest row in tokens; longer ones are cut and counted"
    )
    lora_rank: int = chz.field(default=32, validator=ge(1), doc="rank of the LoRA matrices")
    save_every_tokens: int = chz.field(
        default=0, validator=ge(0), doc="input tokens between checkpoints, in place of steps or beside them (0: off)"
    )
    eval_rows: int = chz.field(default=32, validator=ge(0), doc="held-out rows to evaluate on (0: no evaluation)")
    limit: int | None = chz.field(
        default=None, doc="read only this many first rows of the data set (None: all of them)"
    )
    streaming: bool = chz.field(
        default=False,
        doc="read rows while training, never all at once; needs max_steps or one pass; holds out the first eval_rows",
    )
    shuffle_buffer: int = chz.field(
        default=1000, validator=ge(1), doc="when streaming: rows that are shuffled together, each so many in turn"
    )
    seed: int = chz.field(default=0, validator=ge(0), doc="draws the adapter, the order of rows and the held-out rows")
    pipeline_depth: int = chz.field(
        default=1, validator=ge(0), doc="steps submitted before the oldest is awaited; never changes the numbers"
    )


@chz.chz(typecheck=True)
class ChatConfig(SupervisedConfig):
    """Supervised fine-tuning on multi-turn conversations."""

    dataset: str = chz.field(
        default="conversations",
        validator=filled,
        metadata=dict(REFERENCE),
        doc="conversations: a known name, a hub id, or a local jsonl file",
    )
    eval_dataset: str = chz.field(
        default="",
        metadata=dict(REFERENCE),
        doc="evaluate on this data set instead of held-out rows of `dataset`",
    )
    max_length: int = chz.field(
        default=2048, validator=ge(2), doc="longest row in tokens; longer ones are cut and counted"
    )
