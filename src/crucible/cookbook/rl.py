"""Which recipes learn from rewards?"""

from collections.abc import Mapping

from crucible.cookbook.rl_config import CodeConfig, GuessNumberConfig, MathConfig, RLBasicConfig, RLConfig
from crucible.errors import ConfigError
from crucible.framework import Workflow
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.workflows.rl import rl, rl_evaluation
from crucible.kitchen.workflows.rl_problems import rl_problems

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


def _recipe(name: str, config: type[RLConfig], *, description: str, needs: str) -> Recipe:
    return Recipe(
        name=name,
        description=description,
        config=config,
        workflow=_rl,
        presets=PRESETS,
        default_preset="laptop",
        validate=rl_problems,
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
