"""How well does the policy do on problems that it does not learn from?"""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from crucible.errors import Problem
from crucible.framework import Reads, Stage, StageContext
from crucible.kitchen.policies import Policies
from crucible.kitchen.rolling import GroupSampler, LiveWork, RolloutsInFlight
from crucible.ports import SamplingClient
from crucible.train.graders.graders import Graders
from crucible.train.rl.record import write_rollouts
from crucible.train.rl.rl_metrics import rollout_metrics
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.strategy import MinimumGroup
from crucible.train.rl.types import RLDataset, TrajectoryGroup

TOLD = ("reward/", "env/", "members", "verdicts", "truncated", "turns_per_episode", "ac_tokens_per_turn", "entropy")
"""What begins so is said of an evaluation, under `eval/`: the rest is about groups, and these have one member."""

AT_ONCE = 128
"""So many problems are asked side by side."""


class EvaluateEnvironment(Stage):
    """Measure the mean reward of the newest policy on held-out problems: one attempt at each, always the same ones.

    Records `eval/reward/mean` and the like as metrics of the step, and the results `eval_reward_mean_<label>` and
    `eval_reward_stderr_<label>`; the rollouts go to the run's record. A rollout that fails is counted, and not scored.

    groups: how many of the problems, at most; no problem is asked twice. temperature: 0 is greedy. seed: the run's.
    """

    ports: ClassVar = (SamplingClient,)
    problems: Reads[RLDataset]
    graders: Reads[Graders]
    policies: Reads[Policies]
    limits: Reads[RolloutLimits]
    step: Reads[int]
    live: Reads[LiveWork]
    label: str
    groups: int
    temperature: float = 0.0
    seed: int = 0

    def check(self) -> Iterable[Problem]:
        if self.groups < 1:
            yield Problem(what="must be at least 1", where="groups", given=str(self.groups))
        if self.temperature < 0:
            yield Problem(what="must be 0 or more", where="temperature", given=str(self.temperature))

    async def execute(self, ctx: StageContext) -> None:
        step, problems = ctx.read(self.step), ctx.read(self.problems)
        count = min(self.groups, len(problems))
        about = {"label": self.label}
        ctx.emit("eval.start", {"step": step, "groups": count}, about)
        sampler = GroupSampler(
            client=ctx.port(SamplingClient),
            policy=ctx.read(self.policies).newest,
            graders=ctx.read(self.graders),
            limits=ctx.read(self.limits),
            temperature=self.temperature,
            strategy=MinimumGroup(members=1),
            step=step,
            seed=self.seed,
            live=ctx.read(self.live),
            purpose="eval",
        )
        groups: list[TrajectoryGroup] = []
        for first in range(0, count, AT_ONCE):
            places = range(first, min(first + AT_ONCE, count))
            tasks = [sampler.start(problems.get_batch(place)[0], index=place) for place in places]
            groups += await RolloutsInFlight(sampler=sampler, waiting=tasks).groups()
        if ctx.run.run_dir is not None:
            await asyncio.to_thread(write_rollouts, ctx.run.run_dir, step, groups, purpose="eval")
        values = {f"eval/{name}": value for name, value in rollout_metrics(groups).items() if name.startswith(TOLD)}
        ctx.record_metrics(step, values)
        for name in ("reward/mean", "reward/stderr"):
            if (value := values.get(f"eval/{name}")) is not None:
                ctx.record_result(f"eval_{name.replace('/', '_')}_{self.label}", value)
        ctx.emit("eval.result", {"step": step, "groups": len(groups), **values}, about)
        ctx.emit("eval.stop", {"step": step, "groups": len(groups)}, about)
