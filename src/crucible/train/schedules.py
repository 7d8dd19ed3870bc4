"""What is the learning rate of a step?"""

import math
from collections.abc import Callable, Mapping

from crucible.errors import ConfigError, Problem, did_you_mean

_DECAYS: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}

SCHEDULES = tuple(_DECAYS)
"""The names that `schedule` takes."""


def lr_at(step: int, total_steps: int, *, base: float, schedule: str, warmup_steps: int = 0) -> float:
    """The learning rate of step `step`, counted from 0, of `total_steps`.

    Warm-up is linear: step s < warmup_steps has `base * (s + 1) / warmup_steps`. After it, with
    `progress = (step - warmup_steps) / (total_steps - warmup_steps)`:

        constant  base
        linear    base * (1 - progress)
        cosine    base * (1 + cos(pi * progress)) / 2

    so that the first decayed step has `base` and zero would be reached one step after the last. Never negative.

    Raises:
        ConfigError: for an unknown schedule, or a negative base or warm-up.
    """
    check_schedule(base=base, schedule=schedule, warmup_steps=warmup_steps)
    assert 0 <= step < total_steps, f"step {step} is not one of {total_steps}"
    if step < warmup_steps:
        return base * ((step + 1) / warmup_steps)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return max(0.0, base * _DECAYS[schedule](progress))


def check_schedule(*, base: float, schedule: str, warmup_steps: int) -> None:
    """Raise ConfigError, with all problems at once, for what `lr_at` cannot use."""
    problems: list[Problem] = []
    if schedule not in _DECAYS:
        hint = did_you_mean(schedule, _DECAYS)
        problems.append(Problem(what="there is no such schedule", where="lr_schedule", given=schedule, fix=hint))
    if not (math.isfinite(base) and base >= 0):
        problems.append(Problem(what="a learning rate is 0 or more", where="learning_rate", given=str(base)))
    if warmup_steps < 0:
        problems.append(Problem(what="warm-up takes 0 or more steps", where="warmup_steps", given=str(warmup_steps)))
    if problems:
        raise ConfigError(problems)
