# pyright: standard
# (chz's validators are untyped)
"""Which keys do all recipes that train take? Their updates, checkpoints and records."""

import math
from typing import Any, Literal

import chz
from chz.validators import ge, gt

from crucible.cookbook.durations import seconds_of

ScheduleName = Literal["linear", "cosine", "constant"]


def finite(config: Any, key: str) -> None:
    """A validator: no infinity and no NaN."""
    if not math.isfinite(getattr(config, key)):
        raise ValueError(f"Expected {key} to be a finite number")


def filled(config: Any, key: str) -> None:
    """A validator: no empty text."""
    if not getattr(config, key):
        raise ValueError(f"Expected {key} to be a name, not an empty text")


def duration(config: Any, key: str) -> None:
    """A validator: a time such as 7d, or an empty text."""
    seconds_of(getattr(config, key))


@chz.chz(typecheck=True)
class TrainingConfig:
    """Training with LoRA."""

    warmup_steps: int = chz.field(default=0, validator=ge(0), doc="steps over which the rate rises from near zero")
    gradient_accumulation_steps: int = chz.field(
        default=1, validator=ge(1), doc="forward_backward calls per optimizer step; their gradients add up"
    )
    lora_alpha: float = chz.field(default=32.0, validator=[gt(0), finite], doc="LoRA scale is lora_alpha / lora_rank")
    weight_decay: float = chz.field(default=0.0, validator=[ge(0), finite], doc="AdamW's decoupled weight decay")
    grad_clip_norm: float = chz.field(
        default=0.0, validator=[ge(0), finite], doc="clip the gradient's global norm (0: never)"
    )
    save_every: int = chz.field(default=0, validator=ge(0), doc="steps between checkpoints (0: only the final one)")
    save_every_seconds: float = chz.field(
        default=0.0,
        validator=[ge(0), finite],
        doc="seconds between checkpoints that only serve to go on, each replacing the one before (0: off)",
    )
    keep_checkpoints: int = chz.field(
        default=0, validator=ge(0), doc="how many of the newest periodic checkpoints stay (0: all, or keep_best alone)"
    )
    keep_best: int = chz.field(
        default=0, validator=ge(0), doc="how many checkpoints stay for being the best by best_metric at their step"
    )
    best_metric: str = chz.field(default="eval/nll", validator=filled, doc="the metric that keep_best goes by")
    best_is: Literal["lowest", "highest"] = chz.field(default="lowest", doc="which value of best_metric is best")
    checkpoint_ttl: str = chz.field(
        default="",
        validator=duration,
        doc="age at which a periodic checkpoint goes unless it is among the best: 90s, 12h, 7d, 2w ('': at none)",
    )
    eval_every: int = chz.field(default=0, validator=ge(0), doc="steps between evaluations (0: only before and after)")
    waive: str = chz.field(
        default="", doc="checks of the doctor that may fail, with commas between them (all: every one; '': none)"
    )
    record_every: int = chz.field(
        default=0,
        validator=ge(-1),
        doc="steps between those whose tokens are recorded for `crucible inspect run` (0: 1, 2, 4, 8, ...; -1: none)",
    )

    @property
    def ttl_seconds(self) -> float:
        """`checkpoint_ttl` in seconds; 0 where there is none."""
        return seconds_of(self.checkpoint_ttl)
