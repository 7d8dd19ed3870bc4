"""Which settings of RL contradict each other? Found before a run is planned."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from crucible.errors import ConfigError, Problem
from crucible.kitchen.workflows.rl_settings import RLSettings
from crucible.kitchen.workflows.training import CheckpointChoices, checkpoint_problems, warmup_problems
from crucible.train.rl.assembly import LengthNorm, check_length_norm
from crucible.train.rl.environments.registry import environment_problems, find_environment
from crucible.train.rl.policy_losses import loss_fn_config


class RLChoices(RLSettings, CheckpointChoices, Protocol):
    """What the workflow is told, and what a user may leave to the environment."""

    @property
    def max_tokens(self) -> int | None: ...
    @property
    def length_norm(self) -> LengthNorm: ...


def turn_tokens_of(env: str, options: Mapping[str, Any]) -> int:
    """How many tokens a turn may have, as the environment says.

    Raises:
        ConfigError, MissingExtraError: if there is no such environment here.
    """
    environment, variant = find_environment(env)
    return environment.tokens(variant, options)


def rl_problems(config: RLChoices) -> Iterable[Problem]:
    """What no single key shows to be wrong."""
    wrong = list(environment_problems(config.env, config.environment_options))
    yield from wrong
    yield from _loss_problems(config)
    yield from _mode_problems(config)
    evaluated = config.eval_groups > 0 and config.eval_every > 0 and config.save_every % config.eval_every == 0
    yield from checkpoint_problems(config, saves=config.save_every > 0, evaluated=evaluated, how=", with eval_groups")
    for key in ("max_steps", "max_turns", "max_tokens", "rows"):
        value = getattr(config, key)
        if value is not None and value < 1:
            yield Problem(what="must be at least 1, or None", where=key, given=str(value))
    yield from warmup_problems(config)
    if not wrong and config.overlong_buffer > config.turn_tokens:
        what = f"is more than max_tokens ({config.turn_tokens}): every answer would lose reward"
        yield Problem(what=what, where="overlong_buffer", given=str(config.overlong_buffer))


def _loss_problems(config: RLChoices) -> Iterable[Problem]:
    """A loss with settings that it does not have."""
    beta = {"beta": "dro_beta"}
    try:
        loss_fn_config(config.loss, clip_low=config.clip_low, clip_high=config.clip_high, beta=config.dro_beta)
    except ConfigError as error:
        for problem in error.problems:
            where = beta.get(problem.where, problem.where)
            fix = problem.fix.replace("Leave beta out", "Leave dro_beta out")
            yield Problem(what=problem.what, where=where, given=problem.given, fix=fix)
    try:
        check_length_norm(loss=config.loss, length_norm=config.length_norm, max_tokens=config.max_tokens or 1)
    except ConfigError as error:
        yield from error.problems


def _mode_problems(config: RLChoices) -> Iterable[Problem]:
    """Keys that contradict each other."""
    groups = config.groups_per_batch
    cuts = {
        "num_substeps": config.num_substeps,
        "stream_minibatches": config.stream_minibatches,
        "gradient_accumulation_steps": config.gradient_accumulation_steps * config.num_substeps,
    }
    for key, parts in cuts.items():
        if parts > groups and getattr(config, key) > 1:
            what = f"would cut a step's {groups} groups into {parts} parts: some would have none"
            yield Problem(what=what, where=key, given=str(getattr(config, key)), fix="Raise groups_per_batch")
    if config.stream_minibatches > 1:
        yield from _streaming_problems(config)
    if config.schedule == "opportunistic" and not config.max_steps_off_policy:
        what, fix = "is for sampling that runs ahead of learning", "Give max_steps_off_policy"
        yield Problem(what=what, where="schedule", given="opportunistic", fix=fix)


def _streaming_problems(config: RLChoices) -> Iterable[Problem]:
    """What needs all groups at once, where training does not wait for them."""
    given = {
        "kl_coef": config.kl_coef > 0,
        "dynamic_sampling": config.dynamic_sampling > 0,
        "length_norm": config.length_norm == "batch",
    }
    for key, wants in given.items():
        if wants:
            what = "needs all groups of a step at once, and stream_minibatches does not wait for them"
            yield Problem(what=what, where=key, given=str(getattr(config, key)), fix="Give stream_minibatches=1")
    for key in ("num_substeps", "gradient_accumulation_steps"):
        if getattr(config, key) > 1:
            what = "and stream_minibatches both say how a step is cut"
            yield Problem(what=what, where=key, given=str(getattr(config, key)), fix="Give one of them")
