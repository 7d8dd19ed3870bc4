"""Which values flow through an RL run, beside a session's, and how does each survive a restart?

Policies are durable: which of them samples a step may be an older one. All that a step makes of them is made again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crucible.framework import Durable, Rebuilt, Slot
from crucible.kitchen.policies import Policies
from crucible.kitchen.rolling import LiveWork, RolloutsInFlight, StepRollouts
from crucible.kitchen.slots import StepStart
from crucible.ports.future import Future
from crucible.ports.sampling_client import SamplingSession
from crucible.ports.training_client import ForwardBackwardOutput, OptimStepOutput
from crucible.train.graders.graders import Graders
from crucible.train.rl.assembly import RLDatum
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.types import RLDataset


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningBatch:
    """What a step is trained on.

    advantages: per group and member, None where a member trains nothing; left_out: why ("" where it trains).
    substeps: per optimizer step, per `forward_backward` call, the datums; a call without any is not made.
    counts: of what was left out, by name.
    """

    advantages: Sequence[Sequence[float | None]]
    left_out: Sequence[Sequence[str]]
    substeps: Sequence[Sequence[Sequence[RLDatum]]]
    counts: Mapping[str, float]

    @property
    def datums(self) -> list[RLDatum]:
        """All of them, in the order in which they are trained."""
        return [datum for calls in self.substeps for call in calls for datum in call]


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyUpdate:
    """What the backend said of a step's updates, one entry per optimizer step that was taken."""

    outputs: Sequence[ForwardBackwardOutput]
    steps: Sequence[OptimStepOutput]


PROBLEMS = Slot("problems", RLDataset, Rebuilt(by="build_environment"))
EVAL_PROBLEMS = Slot("eval_problems", RLDataset, Rebuilt(by="build_environment"))
LIMITS = Slot("limits", RolloutLimits, Rebuilt(by="build_environment"))
ITERATIONS = Slot("iterations", range, Rebuilt(by="build_environment"))
TOTAL_STEPS = Slot("total_steps", int, Rebuilt(by="build_environment"))
GRADERS = Slot("graders", Graders, Rebuilt(by="start_graders"))
LIVE = Slot("live", LiveWork, Rebuilt(by="begin_live_work"))
REFERENCE = Slot("reference", SamplingSession, Rebuilt(by="open_reference"))
POLICIES = Slot("policies", Policies, Durable("policies"))
ITERATION = Slot("iteration", int, Rebuilt(by="steps"))
EPOCH = Slot("epoch", int, Rebuilt(by="begin_step"))
STEP_START = Slot("step_start", StepStart, Rebuilt(by="begin_step"))
ROLLING = Slot("rolling", RolloutsInFlight, Rebuilt(by="start_rollouts"))
ROLLOUTS = Slot("rollouts", StepRollouts, Rebuilt(by="await_rollouts"))
LEARNING = Slot("learning", LearningBatch, Rebuilt(by="assemble"))
STREAMED_ROLLOUTS = Slot("rollouts", StepRollouts, Rebuilt(by="forward_backward"))
STREAMED_LEARNING = Slot("learning", LearningBatch, Rebuilt(by="forward_backward"))
FB_FUTURE = Slot[Future[ForwardBackwardOutput]]("fb_future", Future, Rebuilt(by="forward_backward"))
FB_RESULT = Slot("fb_result", ForwardBackwardOutput, Rebuilt(by="await_fb"))
UPDATE = Slot("update", PolicyUpdate, Rebuilt(by="optim_step"))
