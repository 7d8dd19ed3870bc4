"""What do all workflows that train have in common? Their settings, their session, and when they save."""

from collections.abc import Iterable
from typing import Protocol

from crucible.errors import Problem
from crucible.framework import Node, Slot
from crucible.kitchen import slots as s
from crucible.kitchen.stages.loading import InitSession
from crucible.kitchen.stages.saving import SaveCheckpoint
from crucible.kitchen.stages.updating import StartClock


class TrainingSettings(Protocol):
    """The keys of `cookbook.training_config`, and those that differ in what they stand at. A recipe's config has them
    and is passed as it is."""

    @property
    def model(self) -> str: ...
    @property
    def renderer(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def lr_schedule(self) -> str: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def max_steps(self) -> int | None: ...
    @property
    def gradient_accumulation_steps(self) -> int: ...
    @property
    def lora_rank(self) -> int: ...
    @property
    def lora_alpha(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def grad_clip_norm(self) -> float: ...
    @property
    def save_every(self) -> int: ...
    @property
    def save_every_seconds(self) -> float: ...
    @property
    def keep_checkpoints(self) -> int: ...
    @property
    def keep_best(self) -> int: ...
    @property
    def best_metric(self) -> str: ...
    @property
    def best_is(self) -> str: ...
    @property
    def ttl_seconds(self) -> float: ...
    @property
    def eval_every(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def waive(self) -> str: ...
    @property
    def record_every(self) -> int: ...


class CheckpointChoices(TrainingSettings, Protocol):
    """What a user says of a checkpoint's age."""

    @property
    def checkpoint_ttl(self) -> str: ...


def init_session(settings: TrainingSettings) -> InitSession:
    """Open the session that is trained."""
    return InitSession(
        "init_session",
        model=settings.model,
        session=s.SESSION,
        step=s.STEP,
        tokens=s.TOKENS,
        totals=s.TOTALS,
        lora_rank=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        seed=settings.seed,
    )


def start_clocks(settings: TrainingSettings) -> list[Node]:
    """What times are measured from."""
    saving = [StartClock("start_saving_clock", into=s.SAVED_AT)] if settings.save_every_seconds else []
    return [StartClock("start_clock", into=s.SETTLED_AT), *saving]


def save_checkpoint(settings: TrainingSettings, *, epoch: Slot[int]) -> SaveCheckpoint:
    """Save this step's state, to stay as long as the settings say."""
    return SaveCheckpoint(
        "save_checkpoint",
        step=s.STEP,
        epoch=epoch,
        keep_newest=settings.keep_checkpoints,
        keep_best=settings.keep_best,
        metric=settings.best_metric,
        highest=settings.best_is == "highest",
        ttl_seconds=settings.ttl_seconds,
    )


def checkpoint_problems(config: CheckpointChoices, *, saves: bool, evaluated: bool, how: str) -> Iterable[Problem]:
    """What cannot be kept, and what cannot be told to be best.

    saves: whether there are periodic checkpoints; evaluated: whether each of them is evaluated at its own step; how:
    what to give for it.
    """
    given = [key for key in ("keep_checkpoints", "keep_best", "checkpoint_ttl") if getattr(config, key)]
    if given and not saves:
        what, fix = "there are no periodic checkpoints that could go", "Give save_every"
        yield Problem(what=what, where=", ".join(given), fix=fix)
    if config.keep_best and config.best_metric.startswith("eval/") and not evaluated:
        yield Problem(
            what=f"a checkpoint has {config.best_metric} only if its own step is evaluated",
            where="keep_best",
            given=str(config.keep_best),
            fix=f"Make save_every a multiple of eval_every{how}",
        )


def warmup_problems(config: TrainingSettings) -> Iterable[Problem]:
    """A rate that would never be reached."""
    if config.max_steps is not None and config.warmup_steps > config.max_steps > 0:
        yield Problem(
            what="is more than max_steps, so the full rate would never be reached",
            where="warmup_steps",
            given=str(config.warmup_steps),
        )
