# pyright: standard
# (chz's validators are untyped)
"""Which keys do the RL recipes take?"""

import json
from typing import Any, Literal

import chz
from chz.validators import ge, gt

from crucible.cookbook.training_config import ScheduleName, TrainingConfig, filled, finite
from crucible.kitchen.config import REFERENCE
from crucible.kitchen.workflows.rl_problems import turn_tokens_of

LossName = Literal["importance_sampling", "ppo", "cispo", "gspo", "dro"]
AdvantageName = Literal["group_mean", "group_mean_std", "leave_one_out"]
LengthNormName = Literal["none", "sequence", "batch", "constant"]


def options(config: Any, key: str) -> None:
    """A validator: a JSON object of plain values, or an empty text."""
    options_of(getattr(config, key))


def options_of(text: str) -> dict[str, Any]:
    """The environment's options that the text spells.

    Raises:
        ValueError: if it is no JSON object of numbers, texts and truth values.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, (int, float, str, bool)) for value in found.values()):
        raise ValueError(f'{text!r} is no JSON object of plain values, as in {{"digits": 2}}')
    return found


@chz.chz(typecheck=True)
class RLConfig(TrainingConfig):
    """Reinforcement learning with LoRA."""

    model: str = chz.field(
        default="smollm2-135m",
        validator=filled,
        metadata=dict(REFERENCE),
        doc="base model: a packaged name, a hub id, a local folder or a GGUF file",
    )
    env: str = chz.field(
        default="arithmetic:max",
        validator=filled,
        doc="where the problems come from: gsm8k, arithmetic, reasoning_gym:NAME, ... (a name, or name:variant)",
    )
    env_options: str = chz.field(
        default="", validator=options, doc='options of the environment, as JSON: {"digits": 2}'
    )
    renderer: str = chz.field(
        default="auto", validator=filled, doc="how messages become tokens, for environments that talk: as for sl_basic"
    )
    rows: int | None = chz.field(default=None, doc="take only this many problems (None: all there are)")
    group_size: int = chz.field(default=8, validator=ge(2), doc="attempts at each problem")
    groups_per_batch: int = chz.field(default=8, validator=ge(1), doc="problems per step")
    max_tokens: int | None = chz.field(
        default=None,
        doc="most tokens that are sampled in one turn (None: as many as the environment's turns usually need)",
    )
    max_turns: int | None = chz.field(default=None, doc="most turns of an episode (None: as the environment says)")
    env_seconds: float = chz.field(
        default=600.0,
        validator=[ge(0), finite],
        doc="seconds that an environment may take for an answer before that rollout has failed (0: no limit)",
    )
    temperature: float = chz.field(default=1.0, validator=[gt(0), finite], doc="at which tokens are sampled")
    on_failure: Literal["fail", "retry", "minimum"] = chz.field(
        default="fail",
        doc="when a rollout fails: end the run, try that member once more, or go on as long as two members are left",
    )
    loss: LossName = chz.field(default="importance_sampling", doc="the loss, by the backend's names")
    clip_low: float | None = chz.field(default=None, doc="lower clip threshold of the ratio, as 0.8 (None: the loss's)")
    clip_high: float | None = chz.field(default=None, doc="upper one, as 1.2; 1.28 is DAPO's (None: the loss's)")
    dro_beta: float | None = chz.field(default=None, doc="weight of dro's quadratic term (None: the loss's)")
    advantage: AdvantageName = chz.field(default="group_mean", doc="how a member's reward is compared with its group")
    length_norm: LengthNormName = chz.field(
        default="none",
        doc="what a member's tokens are divided by: nothing, its own length (gspo's paper), the mean one, max_tokens",
    )
    overlong_buffer: int = chz.field(
        default=0, validator=ge(0), doc="tokens before max_tokens over which reward is lost, down to -1 (0: none is)"
    )
    mask_truncated: bool = chz.field(default=False, doc="train nothing on members that were cut off")
    kl_coef: float = chz.field(default=0.0, validator=[ge(0), finite], doc="KL penalty to the base model (0: none)")
    remove_constant_reward_groups: bool = chz.field(
        default=True, doc="leave out groups whose rewards are all equal: they have nothing to learn from"
    )
    dynamic_sampling: int = chz.field(
        default=0, validator=ge(0), doc="further groups per step, at most, drawn for those that are left out (0: none)"
    )
    num_substeps: int = chz.field(default=1, validator=ge(1), doc="optimizer steps per step, each on its own groups")
    stream_minibatches: int = chz.field(
        default=1, validator=ge(1), doc="train on so many parts of a step as their groups are done (1: on all at once)"
    )
    max_steps_off_policy: int = chz.field(
        default=0, validator=ge(0), doc="steps that sampling runs ahead of learning (0: they take turns)"
    )
    schedule: Literal["exact", "opportunistic"] = chz.field(
        default="exact",
        doc="who samples when sampling runs ahead: the policy of a fixed number of steps ago, or the newest there is",
    )
    gap_limit: float = chz.field(
        default=0.1,
        validator=[ge(0), finite],
        doc="nats per token that sampler and trainer may differ by before the run stops with a diagnosis (0: no limit)",
    )
    learning_rate: float = chz.field(default=3e-4, validator=[gt(0), finite], doc="peak learning rate of AdamW")
    lr_schedule: ScheduleName = chz.field(default="constant", doc="how the rate decays to the last step")
    max_steps: int | None = chz.field(
        default=None, doc="steps, going through the problems as often as it takes (None: epochs)"
    )
    epochs: int = chz.field(default=1, validator=ge(1), doc="passes over the problems, where max_steps is None")
    lora_rank: int = chz.field(default=16, validator=ge(1), doc="rank of the LoRA matrices")
    best_metric: str = chz.field(default="eval/reward/mean", validator=filled, doc="the metric that keep_best goes by")
    best_is: Literal["lowest", "highest"] = chz.field(default="highest", doc="which value of best_metric is best")
    eval_groups: int = chz.field(default=32, validator=ge(0), doc="held-out problems to measure on (0: no evaluation)")
    eval_temperature: float = chz.field(
        default=0.0, validator=[ge(0), finite], doc="at which evaluations sample (0: the likeliest token)"
    )
    seed: int = chz.field(default=0, validator=ge(0), doc="draws the adapter, the problems' order and every sample")
    grader_workers: int = chz.field(
        default=0, validator=ge(0), doc="processes that grade (0: as many as there are cores, up to 4)"
    )
    grader_cpu_seconds: float = chz.field(
        default=10.0, validator=[gt(0), finite], doc="CPU time that one grading may take before it is ended"
    )

    @property
    def environment_options(self) -> dict[str, Any]:
        """`env_options` as data."""
        return options_of(self.env_options)

    @property
    def turn_tokens(self) -> int:
        """`max_tokens`, or what the environment says.

        Raises:
            ConfigError, MissingExtraError: if there is no such environment here.
        """
        if self.max_tokens is not None:
            return self.max_tokens
        return turn_tokens_of(self.env, self.environment_options)


@chz.chz(typecheck=True)
class RLBasicConfig(RLConfig):
    """Reinforcement learning on a task that a small model learns in minutes."""

    max_steps: int | None = chz.field(
        default=12, doc="steps, going through the problems as often as it takes (None: epochs)"
    )
    eval_temperature: float = chz.field(
        default=1.0, validator=[ge(0), finite], doc="at which evaluations sample (0: the likeliest token)"
    )


@chz.chz(typecheck=True)
class MathConfig(RLConfig):
    """Reinforcement learning on maths problems."""

    env: str = chz.field(default="gsm8k", validator=filled, doc="where the problems come from: gsm8k, math, ...")


@chz.chz(typecheck=True)
class CodeConfig(RLConfig):
    """Reinforcement learning on programs."""

    env: str = chz.field(default="code", validator=filled, doc="where the problems come from")


@chz.chz(typecheck=True)
class GuessNumberConfig(RLConfig):
    """Reinforcement learning over several turns."""

    env: str = chz.field(default="guess_number", validator=filled, doc="where the problems come from")
    env_options: str = chz.field(
        default='{"low": 1, "high": 10, "turns": 4}', validator=options, doc="options of the environment, as JSON"
    )
    max_tokens: int | None = chz.field(
        default=8,
        doc="most tokens that are sampled in one turn (None: as many as the environment's turns usually need)",
    )
    max_steps: int | None = chz.field(
        default=20, doc="steps, going through the problems as often as it takes (None: epochs)"
    )
