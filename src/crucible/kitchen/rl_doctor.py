"""What is wrong with an RL run, its backend included? A few groups are rolled out as the run would, and looked at."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crucible.errors import ConfigError, Problem, did_you_mean
from crucible.framework import Workflow, stages_in
from crucible.kitchen.backend_checks import BACKEND_CHECKS, Bench, check_backend, tolerance_of
from crucible.kitchen.materials import only_stage
from crucible.kitchen.policies import Policy
from crucible.kitchen.rolling import GroupSampler, LiveWork, RolloutsInFlight
from crucible.kitchen.stages.environment import BuildEnvironment
from crucible.kitchen.stages.examining import waived
from crucible.kitchen.stages.examining_rl import ExamineEnvironment
from crucible.kitchen.stages.loading import InitSession
from crucible.kitchen.stages.sampling import StartRollouts
from crucible.ports import DatasetStore, SamplingClient, TokenizerStore, TrainingClient
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.train.checks.finding import Finding, percent
from crucible.train.graders.graders import Graders
from crucible.train.graders.pool import GraderPool
from crucible.train.rl.problem_checks import PROBLEM_CHECKS, examine_problems
from crucible.train.rl.replay import replay_differences
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.selection import is_constant, is_scored
from crucible.train.rl.strategy import MinimumGroup
from crucible.train.rl.types import EnvGroupBuilder, RLDataset, Trajectory, TrajectoryGroup
from crucible.train.seeding import derive_seed

GROUPS = 4
"""Groups that are rolled out: the first of the run."""
SCORED = 4
"""Sequences that go through the checks of the backend."""
MOSTLY = 0.5
"""A larger share of answers that are cut off, or of groups without a signal, is worth a warning."""

ROLLOUT_CHECKS = ("rollouts", "signal", "cut_off", "repeatable", "sampler")
"""What is looked at in the groups that were rolled out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kitchen:
    """The workflow's own parts, and its backend."""

    examine: ExamineEnvironment
    build: BuildEnvironment
    start: InitSession
    roll: StartRollouts
    training: TrainingClient
    sampling: SamplingClient


async def diagnose_rl(
    workflow: Workflow,
    *,
    datasets: DatasetStore,
    tokenizers: TokenizerStore,
    training: TrainingClient,
    sampling: SamplingClient,
    only: Collection[str] = (),
) -> list[Finding]:
    """Every check, or those named by `only`: of the problems, of what a fresh policy makes of them, of the backend.

    Raises:
        ConfigError: if `only` names a check that does not exist.
        UserError: if environment, tokenizer or model cannot be had at all.
    """
    _require_known(only)
    kitchen = _Kitchen(
        examine=only_stage(workflow, (ExamineEnvironment,)),
        build=only_stage(workflow, (BuildEnvironment,)),
        start=only_stage(workflow, (InitSession,)),
        roll=only_stage(workflow, (StartRollouts,)),
        training=training,
        sampling=sampling,
    )
    tokenizer = tokenizers.load(kitchen.start.model)
    problems = kitchen.build.over("train", tokenizer, datasets)
    limits = kitchen.build.rollout_limits(training)
    findings: list[Finding] = []
    with GraderPool() as graders:
        if not only or not set(PROBLEM_CHECKS).isdisjoint(only):
            examined = kitchen.examine.look(problems, tokenizer, graders, limits, training)
            findings += await examine_problems(examined, only=only)
        if not only or not {*ROLLOUT_CHECKS, *BACKEND_CHECKS}.isdisjoint(only):
            findings += await _after_rolling_out(kitchen, problems, graders, limits, only)
    return waived(findings, kitchen.examine.waive)


def is_rl(workflow: Workflow) -> bool:
    """Whether it learns from rewards."""
    return any(isinstance(stage, BuildEnvironment) for stage in stages_in(workflow.body))


def _require_known(only: Collection[str]) -> None:
    known = [*PROBLEM_CHECKS, *ROLLOUT_CHECKS, *BACKEND_CHECKS]
    problems = [
        Problem(what="there is no such check", where="--only", given=name, fix=did_you_mean(name, known))
        for name in only
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)


async def _after_rolling_out(
    kitchen: _Kitchen, problems: RLDataset, graders: Graders, limits: RolloutLimits, only: Collection[str]
) -> list[Finding]:
    """Roll out the run's first groups with a fresh adapter, and judge them, the sampler, and the backend."""
    training, sampling = kitchen.training, kitchen.sampling
    if not training.capabilities().computes:
        why = f"the backend {training.adapter_name} computes nothing"
        names = [name for name in (*ROLLOUT_CHECKS, *BACKEND_CHECKS) if not only or name in only]
        return [Finding(check=name, status="skipped", sentence=why) for name in names]
    session = await training.start_session(kitchen.start.config())
    weights = await training.save_weights_for_sampler(session, "doctor", overwrite=True)
    opened = await sampling.start_session(model_path=weights.path)
    try:
        sampler = GroupSampler(
            client=sampling,
            policy=Policy(index=0, weights=weights, session=opened, live=weights.path),
            graders=graders,
            limits=limits,
            temperature=kitchen.roll.temperature,
            strategy=MinimumGroup(members=1),
            step=0,
            seed=kitchen.roll.seed,
            live=LiveWork(),
        )
        builders = problems.get_batch(0)[:GROUPS]
        tasks = [sampler.start(builder, index=index) for index, builder in enumerate(builders)]
        groups = await RolloutsInFlight(sampler=sampler, waiting=tasks).groups()
        found = [_rollouts(groups), _signal(groups), _cut_off(groups)]
        found.append(await _repeatable(sampler, builders, groups))
        found.append(await _sampler(kitchen, groups))
    finally:
        await sampling.close_session(opened)
        await training.delete_checkpoint(weights.path)
        await training.close_session(session)
    kept = [finding for finding in found if not only or finding.check in only]
    return [*kept, *await check_backend(await _bench(kitchen, groups), only=[*only])] if _wants_backend(only) else kept


def _wants_backend(only: Collection[str]) -> bool:
    return not only or not BACKEND_CHECKS.keys().isdisjoint(only)


def _members(groups: Sequence[TrajectoryGroup]) -> list[Trajectory]:
    return [trajectory for group in groups for trajectory in group.trajectories]


def _rollouts(groups: Sequence[TrajectoryGroup]) -> Finding:
    """Every rollout came to a reward: no environment failed, and every grader gave a score."""
    members = _members(groups)
    failed = [(one.failure.kind, one.failure.what) for one in members if one.failure is not None]
    unscored = [
        (verdict.state, verdict.detail)
        for one in members
        for verdict in one.verdicts
        if one.failure is None and verdict.state != "score"
    ]
    if not failed and not unscored:
        told = f"all {len(members)} rollouts of {len(groups)} groups came to a reward"
        return Finding(check="rollouts", status="pass", sentence=told)
    kind, what = (failed or unscored)[0]
    return Finding(
        check="rollouts",
        status="fail" if len(failed) + len(unscored) >= len(members) else "warn",
        sentence=f"of {len(members)} rollouts {len(failed)} failed, and graders gave no score {len(unscored)} times",
        where=f"{kind}: {what}",
        fix="Such members are masked from their group's baseline and train nothing",
    )


def _signal(groups: Sequence[TrajectoryGroup]) -> Finding:
    """Some group has rewards that differ: from groups whose rewards are all equal nothing can be learned."""
    scored = [group for group in groups if is_scored(group)]
    if not scored:
        return Finding(check="signal", status="skipped", sentence="no group has two rewards to compare")
    rewards = [reward for group in scored for reward in group.rewards if reward is not None]
    constant = sum(is_constant(group) for group in scored)
    told = f"mean reward {np.mean(rewards):.3f}; {constant} of {len(scored)} groups have nothing but equal rewards"
    if constant <= MOSTLY * len(scored):
        return Finding(check="signal", status="pass", sentence=told)
    fix = "Raise group_size, choose easier (or harder) problems, or begin from a model that solves some of them"
    return Finding(check="signal", status="warn", sentence=told, fix=fix)


def _cut_off(groups: Sequence[TrajectoryGroup]) -> Finding:
    """Most answers end by themselves before `max_tokens`."""
    members = [one for one in _members(groups) if one.failure is None]
    if not members:
        return Finding(check="cut_off", status="skipped", sentence="no rollout came to an end")
    share = sum(one.ended == "cut" for one in members) / len(members)
    told = f"{percent(share)} of the answers are cut off at max_tokens"
    if share <= MOSTLY:
        return Finding(check="cut_off", status="pass", sentence=told)
    fix = "Raise max_tokens, or check that the environment's stop is one that the model gives"
    return Finding(check="cut_off", status="warn", sentence=told, fix=fix)


async def _repeatable(
    sampler: GroupSampler, builders: Sequence[EnvGroupBuilder], groups: Sequence[TrajectoryGroup]
) -> Finding:
    """The same actions lead to the same observations and rewards in environments that are made again."""
    whole = [
        pair for pair in zip(builders, groups, strict=True) if not any(one.failure for one in pair[1].trajectories)
    ]
    if not whole:
        return Finding(check="repeatable", status="skipped", sentence="no group came to its end without a failure")
    found: list[tuple[str, str]] = []
    for builder, group in whole:
        told = await replay_differences(
            builder,
            group,
            seed=derive_seed(sampler.seed, sampler.purpose, group.index),
            graders=sampler.graders,
            step=sampler.step,
            limits=sampler.limits,
        )
        found += [(group.problem, sentence) for sentence in told]
    if not found:
        told = f"the actions of {len(whole)} groups, played again in new environments, came to the same"
        return Finding(check="repeatable", status="pass", sentence=told)
    problem, sentence = found[0]
    return Finding(
        check="repeatable",
        status="warn",
        sentence=f"{len(found)} members came to something else when their actions were played again",
        where=f"{problem}, {sentence}",
        fix="Such a run cannot be continued to the byte: take all chance from the seat's generators",
    )


async def _sampler(kitchen: _Kitchen, groups: Sequence[TrajectoryGroup]) -> Finding:
    """The trainer gives the sampled tokens the logprobs that the sampler reported."""
    turns = [(datum, reported) for datum, reported in _turns(groups) if reported.size][:SCORED]
    if not turns:
        return Finding(check="sampler", status="skipped", sentence="nothing was sampled")
    session = await kitchen.training.start_session(kitchen.start.config())
    try:
        output = await kitchen.training.forward(session, [datum for datum, _ in turns], logprobs="weighted")
    finally:
        await kitchen.training.close_session(session)
    gaps = [
        float(np.abs(scored["logprobs"].data[-reported.size :] - reported).max())
        for scored, (_, reported) in zip(output.loss_fn_outputs, turns, strict=True)
    ]
    limit = (await tolerance_of(kitchen.training)).logprob
    told = f"sampler and trainer differ by up to {max(gaps):.1e} nats on the tokens of {len(turns)} answers"
    if max(gaps) <= limit:
        return Finding(check="sampler", status="pass", sentence=told)
    return Finding(
        check="sampler",
        status="fail",
        sentence=f"{told}; up to {limit:.0e} is rounding",
        fix="What is sampled is not what is trained on: check the sampler's temperature, template and weights",
    )


def _turns(groups: Sequence[TrajectoryGroup]) -> list[tuple[Datum, NDArray[np.float64]]]:
    """Each sampled turn as a supervised datum over its prompt and its tokens, with the sampler's logprobs."""
    made: list[tuple[Datum, NDArray[np.float64]]] = []
    for trajectory in _members(groups):
        for turn in trajectory.transitions:
            prompt, drawn = turn.observation.to_ints(), list(turn.action.tokens)
            tokens = [*prompt, *drawn]
            weights = np.zeros(len(tokens) - 1, dtype=np.float32)
            weights[len(prompt) - 1 :] = 1.0
            tensors = {"target_tokens": TensorData(tokens[1:]), "weights": TensorData(weights)}
            reported = np.array(turn.action.logprobs, dtype=np.float64)
            made.append((Datum(ModelInput.from_ints(tokens[:-1]), tensors), reported))
    return made


async def _bench(kitchen: _Kitchen, groups: Sequence[TrajectoryGroup]) -> Bench:
    origins = [
        f"{group.problem}, member {member}, turn {turn}"
        for group in groups
        for member, trajectory in enumerate(group.trajectories)
        for turn, _ in enumerate(trajectory.transitions)
    ]
    apart = list(zip((datum for datum, _ in _turns(groups)), origins, strict=True))
    chosen = sorted(apart, key=lambda one: -one[0].model_input.length)[:SCORED]
    return Bench(
        client=kitchen.training,
        session=kitchen.start.config(),
        datums=[datum for datum, _ in chosen],
        origins=[origin for _, origin in chosen],
        loss_fn="cross_entropy",
        tolerance=await tolerance_of(kitchen.training),
    )
