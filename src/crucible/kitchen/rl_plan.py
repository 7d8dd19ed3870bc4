"""What would an RL run do and cost? Read off its workflow and its first problems, before it runs."""

from dataclasses import dataclass

from crucible.framework import Workflow
from crucible.kitchen.materials import only_stage
from crucible.kitchen.plan import checkpoints_of
from crucible.kitchen.stages.environment import BuildEnvironment
from crucible.kitchen.stages.loading import InitSession
from crucible.ports import DatasetStore, TokenizerStore, TrainingClient
from crucible.ports.training_client import Estimate, Workload
from crucible.train.graders.pool import GraderPool
from crucible.train.rl.problem_checks import first_prompts


@dataclass(frozen=True, kw_only=True)
class RLPlan:
    """What a run would do, at most: answers may end before `max_tokens`, and groups may have nothing to learn from.

    problems: of one pass; measured: first prompts that were measured, of `prompt_tokens` (shortest, mean, longest).
    rollouts, sampled_tokens, trained_tokens: of all steps together, if every answer is as long as it may be; of
    environments with several turns, of the first turn alone. checkpoints, checkpoints_kept, estimate: as in `Plan`;
    the estimate is of training alone, sampling comes on top.
    """

    model: str
    env: str
    problems: int
    measured: int
    prompt_tokens: tuple[int, float, int]
    context_length: int | None
    max_tokens: int
    steps: int
    groups_per_step: int
    group_size: int
    rollouts: int
    sampled_tokens: int
    trained_tokens: int
    checkpoints: int
    checkpoints_kept: int
    estimate: Estimate | None


async def plan_rl(
    workflow: Workflow, *, datasets: DatasetStore, tokenizers: TokenizerStore, training: TrainingClient
) -> RLPlan:
    """The plan of an RL workflow, from the same stages that the run would use.

    Raises:
        UserError: if environment, tokenizer or model cannot be had.
    """
    build, start = only_stage(workflow, (BuildEnvironment,)), only_stage(workflow, (InitSession,))
    problems = build.over("train", tokenizers.load(start.model), datasets)
    limits = build.rollout_limits(training)
    with GraderPool() as graders:
        prompts = await first_prompts(problems, graders=graders, seed=build.seed)
    lengths = [prompt.length for _, prompt in prompts] or [0]
    mean = sum(lengths) / len(lengths)
    steps = build.steps(problems)
    rollouts = steps * build.groups_per_batch * build.group_size
    sampled = rollouts * limits.max_tokens
    trained = round(rollouts * (mean + limits.max_tokens))
    workload = Workload(
        trained_input_tokens=trained,
        loss_tokens=sampled,
        scored_input_tokens=0,
        longest=max(lengths) + limits.max_tokens,
    )
    saved, kept = checkpoints_of(workflow, steps=steps, tokens=trained)
    return RLPlan(
        model=start.model,
        env=build.env,
        problems=len(problems) * build.groups_per_batch,
        measured=len(prompts),
        prompt_tokens=(min(lengths), mean, max(lengths)),
        context_length=limits.context_length,
        max_tokens=limits.max_tokens,
        steps=steps,
        groups_per_step=build.groups_per_batch,
        group_size=build.group_size,
        rollouts=rollouts,
        sampled_tokens=sampled,
        trained_tokens=trained,
        checkpoints=saved,
        checkpoints_kept=kept,
        estimate=training.estimate(start.config(), workload),
    )
