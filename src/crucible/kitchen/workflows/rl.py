"""How does reinforcement learning go, stage by stage? In turn, in minibatches as they come, or side by side."""

from collections.abc import Mapping
from typing import Any

from crucible.framework import Every, Loop, Node, Stream, When, Workflow
from crucible.kitchen import rl_slots as r
from crucible.kitchen import slots as s
from crucible.kitchen.stages.environment import BuildEnvironment, ClearRollouts, CloseGraders, StartGraders
from crucible.kitchen.stages.examining_rl import ExamineEnvironment
from crucible.kitchen.stages.gap_alarm import CheckSamplerGap
from crucible.kitchen.stages.learning import (
    Assemble,
    BeginStep,
    ForwardBackwardPolicy,
    LearnFromMinibatches,
    PenalizeDistance,
    UpdatePolicy,
)
from crucible.kitchen.stages.loading import InitTokenizer, LoadWeights
from crucible.kitchen.stages.measuring import EvaluateEnvironment
from crucible.kitchen.stages.reporting import LogRLMetrics, RecordLearned, SummarizeRL
from crucible.kitchen.stages.sampling import (
    AwaitRollouts,
    BeginLiveWork,
    ClosePolicies,
    CloseReference,
    FirstPolicy,
    OpenReference,
    RecordRollouts,
    SavePolicy,
    StartRollouts,
)
from crucible.kitchen.stages.saving import CloseSession, SaveFinalWeights, SaveNowAndThen
from crucible.kitchen.stages.updating import AwaitFuture
from crucible.kitchen.workflows.rl_settings import RLSettings, drawn_as
from crucible.kitchen.workflows.training import init_session, save_checkpoint, start_clocks
from crucible.train.rl.policy_losses import loss_fn_config


def rl(settings: RLSettings) -> Workflow:
    """Sample, grade, learn, step by step; evaluate before and after; save."""
    evaluate = settings.eval_groups > 0
    return Workflow(
        "rl",
        description="Reinforcement learning with LoRA",
        body=[
            *prepare(settings, examine=True),
            *([OpenReference("open_reference", into=r.REFERENCE, model=settings.model)] if settings.kl_coef else []),
            *([_evaluate(settings, "eval_before", "before")] if evaluate else []),
            *start_clocks(settings),
            _steps(settings),
            *([_evaluate(settings, "eval_after", "after")] if evaluate else []),
            *([CloseReference("close_reference", reference=r.REFERENCE)] if settings.kl_coef else []),
            CloseGraders("close_graders", graders=r.GRADERS),
            ClosePolicies("close_policies", policies=r.POLICIES, live=r.LIVE),
            SaveFinalWeights("save_final", session=s.SESSION, step=s.STEP),
            SummarizeRL("summarize", totals=s.TOTALS),
            CloseSession("close_session", session=s.SESSION),
        ],
    )


def rl_evaluation(settings: RLSettings, checkpoint: str = "") -> Workflow:
    """Measure the base model, or with `checkpoint` the weights saved there, on the held-out problems."""
    label = "checkpoint" if checkpoint else "base"
    return Workflow(
        "rl_evaluation",
        description="Mean reward of a model or a checkpoint on held-out problems",
        body=[
            *prepare(settings, checkpoint=checkpoint),
            _evaluate(settings, "evaluate", label),
            CloseGraders("close_graders", graders=r.GRADERS),
            ClosePolicies("close_policies", policies=r.POLICIES, live=r.LIVE),
            CloseSession("close_session", session=s.SESSION),
        ],
    )


def prepare(settings: RLSettings, *, checkpoint: str = "", examine: bool = False) -> list[Node]:
    """Tokenizer, problems and graders, then the session and the policy that it begins with.

    examine: try the environment before the model is loaded, and stop if a check fails.
    """
    gate = ExamineEnvironment(
        "examine_environment",
        tokenizer=s.TOKENIZER,
        problems=r.PROBLEMS,
        graders=r.GRADERS,
        limits=r.LIMITS,
        model=settings.model,
        learning_rate=settings.learning_rate,
        waive=settings.waive,
        seed=settings.seed,
    )
    weights: list[Node] = [LoadWeights("load_weights", session=s.SESSION, path=checkpoint)] if checkpoint else []
    return [
        ClearRollouts("clear_rollouts"),
        InitTokenizer("init_tokenizer", model=settings.model, tokenizer=s.TOKENIZER),
        BuildEnvironment(
            "build_environment",
            tokenizer=s.TOKENIZER,
            problems=r.PROBLEMS,
            eval_problems=r.EVAL_PROBLEMS,
            limits=r.LIMITS,
            iterations=r.ITERATIONS,
            total_steps=r.TOTAL_STEPS,
            env=settings.env,
            model=settings.model,
            renderer=settings.renderer,
            options=settings.environment_options,
            group_size=settings.group_size,
            groups_per_batch=settings.groups_per_batch,
            eval_groups=settings.eval_groups,
            rows=settings.rows,
            max_tokens=settings.turn_tokens,
            max_turns=settings.max_turns,
            env_seconds=settings.env_seconds,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            seed=settings.seed,
        ),
        StartGraders(
            "start_graders",
            graders=r.GRADERS,
            workers=settings.grader_workers,
            cpu_seconds=settings.grader_cpu_seconds,
        ),
        *([gate] if examine else []),
        init_session(settings),
        *weights,
        BeginLiveWork("begin_live_work", live=r.LIVE),
        FirstPolicy("first_policy", session=s.SESSION, live=r.LIVE, policies=r.POLICIES),
    ]


def _steps(settings: RLSettings) -> Loop | Stream:
    """All steps: one after the other, or with rollouts that run up to so many steps ahead of learning."""
    ahead = settings.max_steps_off_policy
    over: dict[str, Any] = {"over": r.ITERATIONS, "bind": r.ITERATION}
    rest = [
        *_learn(settings),
        SavePolicy("save_policy", session=s.SESSION, step=s.STEP, live=r.LIVE, policies=r.POLICIES, keep=ahead + 1),
        *_now_and_then(settings),
    ]
    if not ahead:
        return Loop("steps", **over, body=[_begin(settings), _start(settings), *rest])
    return Stream(
        "steps",
        **over,
        produce=[_start(settings)],
        consume=[_begin(settings), *rest],
        capacity=ahead + 1,
        feedback=[r.POLICIES],
        schedule="opportunistic" if settings.schedule == "opportunistic" else "exact",
    )


def _begin(settings: RLSettings) -> BeginStep:
    return BeginStep(
        "begin_step",
        problems=r.PROBLEMS,
        iteration=r.ITERATION,
        total_steps=r.TOTAL_STEPS,
        step=s.STEP,
        epoch=r.EPOCH,
        into=r.STEP_START,
        learning_rate=settings.learning_rate,
        lr_schedule=settings.lr_schedule,
        warmup_steps=settings.warmup_steps,
    )


def _start(settings: RLSettings) -> StartRollouts:
    ahead = settings.max_steps_off_policy > 0
    return StartRollouts(
        "start_rollouts",
        problems=r.PROBLEMS,
        graders=r.GRADERS,
        policies=r.POLICIES,
        limits=r.LIMITS,
        iteration=r.ITERATION,
        total_steps=r.TOTAL_STEPS,
        live=r.LIVE,
        into=r.ROLLING,
        temperature=settings.temperature,
        on_failure=settings.on_failure,
        replay="always" if ahead and settings.schedule == "opportunistic" else "same_policy",
        drawn_as=drawn_as(settings),
        seed=settings.seed,
    )


def _learn(settings: RLSettings) -> list[Node]:
    """From the rollouts to the optimizer's steps, and what is said of them."""
    loss: dict[str, Any] = {"loss": settings.loss, "loss_config": _loss_config(settings)}
    streamed = settings.stream_minibatches > 1
    rollouts, batch = (r.STREAMED_ROLLOUTS, r.STREAMED_LEARNING) if streamed else (r.ROLLOUTS, r.LEARNING)
    gap = CheckSamplerGap(
        "check_gap",
        session=s.SESSION,
        policies=r.POLICIES,
        batch=batch,
        result=r.FB_RESULT,
        step=s.STEP,
        model=settings.model,
        limit=settings.gap_limit,
        ahead=settings.max_steps_off_policy * settings.num_substeps,
        temperature=settings.temperature,
    )
    return [
        *(_as_they_come(settings, loss) if streamed else _when_all_are_there(settings, loss)),
        AwaitFuture("await_fb", future=r.FB_FUTURE, into=r.FB_RESULT),
        *([gap] if settings.gap_limit else []),
        UpdatePolicy(
            "optim_step",
            session=s.SESSION,
            batch=batch,
            result=r.FB_RESULT,
            start=r.STEP_START,
            into=r.UPDATE,
            weight_decay=settings.weight_decay,
            grad_clip_norm=settings.grad_clip_norm,
            **loss,
        ),
        RecordLearned(
            "record_learned",
            start=r.STEP_START,
            rollouts=rollouts,
            batch=batch,
            update=r.UPDATE,
            every=settings.record_every,
        ),
        LogRLMetrics(
            "log_metrics",
            start=r.STEP_START,
            rollouts=rollouts,
            batch=batch,
            update=r.UPDATE,
            policies=r.POLICIES,
            total_steps=r.TOTAL_STEPS,
            totals=s.TOTALS,
            settled_at=s.SETTLED_AT,
            ahead=settings.max_steps_off_policy > 0,
            **loss,
        ),
    ]


def _loss_config(settings: RLSettings) -> dict[str, float]:
    return loss_fn_config(
        settings.loss, clip_low=settings.clip_low, clip_high=settings.clip_high, beta=settings.dro_beta
    )


def _taught(settings: RLSettings) -> dict[str, Any]:
    """How datums are made of groups."""
    return {
        "advantage": settings.advantage,
        "length_norm": settings.length_norm,
        "max_tokens": settings.turn_tokens,
        "overlong_buffer": settings.overlong_buffer,
        "remove_constant_reward_groups": settings.remove_constant_reward_groups,
        "mask_truncated": settings.mask_truncated,
    }


def _when_all_are_there(settings: RLSettings, loss: Mapping[str, Any]) -> list[Node]:
    penalty = PenalizeDistance("penalize_distance", reference=r.REFERENCE, batch=r.LEARNING, coef=settings.kl_coef)
    return [
        AwaitRollouts(
            "await_rollouts",
            rolling=r.ROLLING,
            problems=r.PROBLEMS,
            iteration=r.ITERATION,
            total_steps=r.TOTAL_STEPS,
            into=r.ROLLOUTS,
            more=settings.dynamic_sampling,
        ),
        RecordRollouts("record_rollouts", iteration=r.ITERATION, rollouts=r.ROLLOUTS, drawn_as=drawn_as(settings)),
        Assemble(
            "assemble",
            rollouts=r.ROLLOUTS,
            into=r.LEARNING,
            loss=settings.loss,
            num_substeps=settings.num_substeps,
            calls=settings.gradient_accumulation_steps,
            **_taught(settings),
        ),
        *([penalty] if settings.kl_coef else []),
        ForwardBackwardPolicy("forward_backward", session=s.SESSION, batch=r.LEARNING, into=r.FB_FUTURE, **loss),
    ]


def _as_they_come(settings: RLSettings, loss: Mapping[str, Any]) -> list[Node]:
    return [
        LearnFromMinibatches(
            "forward_backward",
            session=s.SESSION,
            rolling=r.ROLLING,
            iteration=r.ITERATION,
            rollouts=r.STREAMED_ROLLOUTS,
            batch=r.STREAMED_LEARNING,
            into=r.FB_FUTURE,
            minibatches=settings.stream_minibatches,
            **loss,
            **_taught(settings),
        ),
        RecordRollouts(
            "record_rollouts", iteration=r.ITERATION, rollouts=r.STREAMED_ROLLOUTS, drawn_as=drawn_as(settings)
        ),
    ]


def _now_and_then(settings: RLSettings) -> list[Node]:
    """Evaluations and checkpoints, behind the step that they are of."""
    nodes: list[Node] = []
    if settings.eval_every and settings.eval_groups:
        nodes.append(When(Every(settings.eval_every, of=s.STEP), [_evaluate(settings, "evaluate", "during")]))
    if settings.save_every:
        save = save_checkpoint(settings, epoch=r.EPOCH)
        nodes.append(When(Every(settings.save_every, of=s.STEP), [save]))
    if settings.save_every_seconds:
        nodes.append(SaveNowAndThen("save_now_and_then", saved_at=s.SAVED_AT, seconds=settings.save_every_seconds))
    return nodes


def _evaluate(settings: RLSettings, name: str, label: str) -> EvaluateEnvironment:
    return EvaluateEnvironment(
        name,
        problems=r.EVAL_PROBLEMS,
        graders=r.GRADERS,
        policies=r.POLICIES,
        limits=r.LIMITS,
        step=s.STEP,
        live=r.LIVE,
        label=label,
        groups=settings.eval_groups,
        temperature=settings.eval_temperature,
        seed=settings.seed,
    )
