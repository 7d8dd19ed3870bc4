"""Which recipes learn from rewards?"""

from collections.abc import Iterable, Mapping

from crucible.cookbook.rl_config import CodeConfig, GuessNumberConfig, MathConfig, RLBasicConfig, RLConfig
from crucible.errors import ConfigError, Problem
from crucible.framework import Workflow
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.workflows.rl import rl, rl_evaluation
from crucible.train.rl.assembly import check_length_norm
from crucible.train.rl.environments.registry import environment_problems
from crucible.train.rl.policy_losses import loss_fn_config

SEED: Mapping[str, object] = {
    "model": "meta-llama/Llama-3.1-8B",
    "group_size": 16,
    "groups_per_batch": 128,
    "learning_rate": 8e-5,
    "lora_rank": 32,
    "save_every": 20,
}
"""The values of the seed documents, for a GPU or a hosted service."""

PRESETS: Mapping[str, Mapping[str, object]] = {"laptop": {}, "seed": SEED}
"""laptop: the packaged SmolLM2-135M."""


def _rl(config: RLConfig) -> Workflow:
    return rl(config)


def _evaluation(config: RLConfig, checkpoint: str) -> Workflow:
    if not config.eval_groups:
        raise ConfigError.of("must be at least 1: there would be nothing to measure", where="eval_groups", given="0")
    return rl_evaluation(config, checkpoint)


def _validate(config: RLConfig) -> Iterable[Problem]:
    wrong = list(environment_problems(config.env, config.environment_options))
    yield from wrong
    yield from _loss_problems(config)
    yield from _mode_problems(config)
    yield from _retention_problems(config)
    for key in ("max_steps", "max_turns", "max_tokens", "rows"):
        value = getattr(config, key)
        if value is not None and value < 1:
            yield Problem(what="must be at least 1, or None", where=key, given=str(value))
    if config.max_steps is not None and config.warmup_steps > config.max_steps:
        what = "is more than max_steps, so the full rate would never be reached"
        yield Problem(what=what, where="warmup_steps", given=str(config.warmup_steps))
    if not wrong and config.overlong_buffer > config.turn_tokens:
        what = f"is more than max_tokens ({config.turn_tokens}): every answer would lose reward"
        yield Problem(what=what, where="overlong_buffer", given=str(config.overlong_buffer))


def _loss_problems(config: RLConfig) -> Iterable[Problem]:
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


def _mode_problems(config: RLConfig) -> Iterable[Problem]:
    """Keys that contradict each other."""
    groups = config.groups_per_batch
    cuts = {
        "num_substeps": config.num_substeps,
        "stream_minibatches": config.stream_minibatches,
        "gradient_accumulation_steps": config.gradient_accumulation_steps * config.num_substeps,
    }
    for key, parts in cuts.items():
        if parts > groups:
            what = f"would cut a step's {groups} groups into {parts} parts: some would have none"
            yield Problem(what=what, where=key, given=str(getattr(config, key)), fix="Raise groups_per_batch")
    if config.stream_minibatches > 1:
        yield from _streaming_problems(config)
    if config.schedule == "opportunistic" and not config.max_steps_off_policy:
        what, fix = "is for sampling that runs ahead of learning", "Give max_steps_off_policy"
        yield Problem(what=what, where="schedule", given="opportunistic", fix=fix)


def _streaming_problems(config: RLConfig) -> Iterable[Problem]:
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


def _retention_problems(config: RLConfig) -> Iterable[Problem]:
    """What cannot be kept, and what cannot be told to be best."""
    given = [key for key in ("keep_checkpoints", "keep_best", "checkpoint_ttl") if getattr(config, key)]
    if given and not config.save_every:
        what, fix = "there are no periodic checkpoints that could go", "Give save_every"
        yield Problem(what=what, where=", ".join(given), fix=fix)
    evaluated = config.eval_groups > 0 and config.eval_every > 0 and config.save_every % config.eval_every == 0
    if config.keep_best and config.best_metric.startswith("eval/") and not evaluated:
        yield Problem(
            what=f"a checkpoint has {config.best_metric} only if its own step is evaluated",
            where="keep_best",
            given=str(config.keep_best),
            fix="Make save_every a multiple of eval_every, with eval_groups",
        )


def _recipe(name: str, config: type[RLConfig], *, description: str, needs: str) -> Recipe:
    return Recipe(
        name=name,
        description=description,
        config=config,
        workflow=_rl,
        presets=PRESETS,
        default_preset="laptop",
        validate=_validate,
        needs=needs,
        evaluation=_evaluation,
    )


RL_BASIC = _recipe(
    "rl_basic",
    RLBasicConfig,
    description="Reinforcement learning on a task that a small model learns in minutes",
    needs="a base model; the problems are made up",
)

RL_GRPO = _recipe(
    "rl_grpo",
    RLConfig,
    description="Reinforcement learning from groups of attempts (GRPO and its family) in any environment",
    needs="a base model and an environment",
)

MATH_RL = _recipe(
    "math_rl",
    MathConfig,
    description="Reinforcement learning on maths problems whose answers are verified",
    needs="an instructed model and problems with answers",
)

CODE_RL = _recipe(
    "code_rl",
    CodeConfig,
    description="Reinforcement learning on programs that are run against tests",
    needs="an instructed model and a machine that can isolate a process",
)

GUESS_NUMBER = _recipe(
    "guess_number",
    GuessNumberConfig,
    description="Reinforcement learning over several turns: guess a number from hints",
    needs="an instructed model; the numbers are made up",
)
